"use strict";
(() => {
  const stale = document.getElementById("stale");
  const meld = (a, b) => {
    if (a.isEqualNode(b)) return;
    const [as, bs] = [[...a.childNodes], [...b.childNodes]];
    if (a.nodeName !== b.nodeName || !as.length || as.length !== bs.length) {
      a.replaceWith(b);
      return;
    }
    for (const { name, value } of b.attributes) a.setAttribute(name, value);
    as.forEach((one, i) => meld(one, bs[i]));
  };
  let asking = false;
  const look = async () => {
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch(location.href);
      if (!answer.ok) throw answer;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const one of document.querySelectorAll("section")) {
        const other = fresh.getElementById(one.id);
        if (other) meld(one, other);
      }
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    } finally {
      asking = false;
    }
  };
  setInterval(look, 15000);
  document.addEventListener("visibilitychange", look);
})();
