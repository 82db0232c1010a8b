// A formula that is wider than the text is set smaller, so that all of it is seen.
(() => {
  const given = new WeakMap();
  const line = (formula) => {
    let block = formula.parentElement;
    while (getComputedStyle(block).display.startsWith("inline")) block = block.parentElement;
    const { paddingLeft, paddingRight } = getComputedStyle(block);
    return block.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
  };
  const fit = () => document.querySelectorAll("article mjx-container").forEach((formula) => {
    if (!given.has(formula)) given.set(formula, formula.style.fontSize);
    formula.style.fontSize = given.get(formula);
    const own = formula.getAttribute("display") === "true";
    const width = formula.firstElementChild.getBoundingClientRect().width;
    const share = (own ? formula.clientWidth : line(formula)) / width;
    const size = parseFloat(getComputedStyle(formula).fontSize);
    if (share > 0 && share < 1) formula.style.fontSize = `${Math.floor(98 * size * share) / 100}px`;
  });
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(fit));
  addEventListener("resize", fit);
})();
