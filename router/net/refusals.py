"""What is said to those who are not served: they speak no HTTP, or something else beside it."""

from __future__ import annotations

from router.net.exchange import JSON, Exchange


def _error(code: str, message: str) -> str:
    return (
        f'{{"error":{{"message":"{message}","type":"invalid_request_error",'
        f'"param":null,"code":"{code}"}}}}'
    )


def refusal(status: str, code: str, message: str) -> bytes:
    """Return a whole answer in OpenAI's shape, for what never became a request."""
    body = _error(code, message)
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


BROKEN = refusal("500 Internal Server Error", "internal_error", "the sidecar failed")


async def refuse_websocket(exchange: Exchange) -> None:
    """Answer a websocket handshake, in its turn."""
    message = "websocket is not served here; use HTTP"
    body = _error("upgrade_not_supported", message).encode()
    await exchange.respond(501, body, [JSON, (b"x-should-retry", b"false")])
