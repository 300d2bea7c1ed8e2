// A program of the JavaScript kit: two turns with tools, streamed or whole.
// Arguments: base URL with its version, dialect, session, how ("stream" or "whole"), the word's file.
import { readFile, readdir } from "node:fs/promises";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [baseURL, dialect, session, how, notes] = process.argv.slice(2);
const openai = createOpenAI({ baseURL, apiKey: "sk-none", headers: { "x-router-session-id": session } });
const named = (name) => jsonSchema({
  type: "object",
  properties: { [name]: { type: "string" } },
  required: [name],
  additionalProperties: false,
});
const settings = {
  model: dialect === "chat" ? openai.chat("auto") : openai("auto"),
  prompt: "Look into the folder, then read the notes.",
  stopWhen: stepCountIs(5),
  tools: {
    list: tool({
      description: "List a folder", inputSchema: named("folder"), execute: async () => readdir("."),
    }),
    read: tool({
      description: "Read a file", inputSchema: named("file"), execute: async () => readFile(notes, "utf8"),
    }),
  },
  onError: ({ error }) => { throw error; },
};
if (how === "stream") {
  const result = streamText(settings);
  let text = "";
  for await (const piece of result.textStream) text += piece;
  console.log(text);
} else {
  console.log((await generateText(settings)).text);
}
