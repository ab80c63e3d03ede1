// Start-up: draws the sections.

function startTheme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const set = (dark) => {
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    for (const redraw of themed) redraw();
  };
  const wanted = remembered("theme", "system");
  set(wanted === "system" ? system.matches : wanted === "dark");
  button.addEventListener("click", () => {
    set(!isDark());
    remember("theme", isDark() ? "dark" : "light");
  });
  system.addEventListener("change", (event) => set(event.matches));
}

function startSections() {
  const sections = [...document.querySelectorAll("main > section")], go = (id) => byId(id).scrollIntoView();
  if (sections.length > 1) {
    byId("sections").append(...sections.map(({ id }) => make("a", { href: `#at=${id}`, click: (event) => {
      event.preventDefault();
      remember("at", id);
      go(id);
    } }, byId(`${id}-title`).textContent)));
  }
  const at = remembered("at", "");
  return () => { if (sections.some(({ id }) => id === at)) go(at); };
}

async function startPage() {
  const { title, said, version, date, notes, identity } = data.about;
  byId("title").textContent = title;
  byId("said").textContent = said;
  byId("written").textContent = `Written by parbench ${version} on ${date}.`;
  byId("notes").append(...notes.map((note) => make("li", {}, note)));
  byId("identity").append(...Object.entries(identity).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
  byId("common").hidden = !Object.keys(identity).length;
  startTheme();
  startLink();
  const arrive = startSections();
  for (const start of starts) await start();
  arrive();
  document.documentElement.dataset.ready = "true";
}

startPage();
