// Pages to read come before the library's reference and the listings of its code.
var Scorer = {
  score: ([docname, title, anchor, descr, score]) =>
    /api$|^_modules|genindex|py-modindex/.test(docname) ? score - 40 : /claims$|results$/.test(docname) ? score - 2 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

// A result shows a part of its page: text, without code, buttons, lists of links and what is folded.
if (typeof Search !== "undefined") {
  const unread =
    ".bd-header-article, .bd-sidebar-secondary, .bd-footer-article, .prev-next-footer, #jb-print-docs-body, " +
    ".cell_input, details.hide, .skip-to-figure, fieldset, button";
  const textOf = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(unread).forEach((element) => element.remove());
    return textOf(page.documentElement.outerHTML, anchor).replace(/\s+/g, " ");
  };
}
