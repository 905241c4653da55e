// Draws the sequence diagrams of a page by mermaid.min.js, which `cargo xtask book` puts beside the pages. Where it is
// missing, a diagram stays what it is in the sources: text that can be read.
(() => {
  const sources = [...document.querySelectorAll("code.language-mermaid")];
  if (sources.length === 0) return;
  const script = document.createElement("script");
  script.src = path_to_root + "mermaid.min.js";
  script.onload = () => {
    for (const code of sources) {
      const diagram = document.createElement("pre");
      diagram.className = "mermaid";
      diagram.textContent = code.textContent;
      code.closest("pre").replaceWith(diagram);
    }
    const dark = ["coal", "navy", "ayu"].some((theme) => document.documentElement.classList.contains(theme));
    mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "default" });
    mermaid.run();
  };
  document.head.append(script);
})();
