// A formula that is wider than the text is set smaller, so that all of it is seen.
(() => {
  const given = new WeakMap();
  const fit = () => document.querySelectorAll('article mjx-container[display="true"]').forEach((formula) => {
    if (!given.has(formula)) given.set(formula, formula.style.fontSize);
    formula.style.fontSize = given.get(formula);
    const share = formula.clientWidth / formula.firstElementChild.getBoundingClientRect().width;
    const size = parseFloat(getComputedStyle(formula).fontSize);
    if (share < 1) formula.style.fontSize = `${Math.floor(98 * size * share) / 100}px`;
  });
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(fit));
  addEventListener("resize", fit);
})();
