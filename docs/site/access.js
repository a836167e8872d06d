/* What the theme leaves out for screen readers and keyboards: names of its regions, and code that can be scrolled by keys. */
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelector(".md-nav--primary")?.setAttribute("aria-label", "All pages");
  for (const section of document.querySelectorAll(".md-nav[aria-labelledby]")) {  // by an empty label, if it has a page
    section.setAttribute("aria-label", section.querySelector(".md-nav__title")?.textContent.trim() + ": pages");
    section.removeAttribute("aria-labelledby");
  }
  for (const code of document.querySelectorAll("pre > code")) code.tabIndex = 0;
  // The theme puts a nav without a name, for the button that copies, beside each block of code.
  new MutationObserver(() => {
    document.querySelectorAll(".md-code__nav").forEach((nav, at) => nav.setAttribute("aria-label", `Code ${at + 1}`));
  }).observe(document.body, { childList: true, subtree: true });
});
