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
  const look = async () => {
    if (document.hidden) return;
    try {
      const found = await fetch(location.href, { signal: AbortSignal.timeout(14e3) });
      if (!found.ok) throw found;
      const fresh = new DOMParser().parseFromString(await found.text(), "text/html");
      for (const one of document.querySelectorAll("section")) {
        meld(one, fresh.getElementById(one.id) ?? one);
      }
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
  };
  setInterval(look, 15000);
  document.addEventListener("visibilitychange", look);
})();
