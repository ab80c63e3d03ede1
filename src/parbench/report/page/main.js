// Everything in its place.

function startTheme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const set = (dark) => {
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
  };
  button.setAttribute("aria-pressed", String(system.matches));
  button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
  system.addEventListener("change", (event) => set(event.matches));
}

byId("title").textContent = data.about.title;
byId("said").textContent = data.about.said;
byId("notes").append(...data.about.notes.map((note) => make("li", {}, note)));
byId("identity").append(...Object.entries(data.about.identity).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
startTheme();
startTable();
startScatter();
startViewer().then(() => { document.documentElement.dataset.ready = "true"; });
