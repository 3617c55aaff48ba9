// The report's table and its structures.
(() => {
  const $ = id => document.getElementById(id);
  const json = id => JSON.parse($(id).textContent);
  const data = json("data");
  const column = Object.fromEntries(data.columns.map(([key], i) => [key, i]));
  const cell = (row, key) => row[column[key]];
  const make = (name, text, kind) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const isScored = column.passes !== undefined;
  const nameOf = row => `${isScored ? "rank " + cell(row, "rank") + ": " : ""}sample ${cell(row, "sample")}, seed ${cell(row, "seed")}`;

  // Structures.
  const shownAt = new Map(data.structures.map((structure, i) => [structure.rank, i]));
  const rowOf = new Map(data.rows.map(row => [cell(row, "rank"), row]));
  let viewer = null, current = -1;

  function show(i) {
    const n = data.structures.length;
    current = (i + n) % n;
    const structure = data.structures[current];
    const row = rowOf.get(structure.rank);
    $("chosen").value = String(current);
    if (viewer) viewer.show(structure);
    const scores = $("scores");
    scores.replaceChildren();
    const rows = [["shown", structure.plddt ? "AlphaFold2" : "design"]];
    for (const [key, title, kind] of data.columns) {
      const value = cell(row, key);
      if (kind === "number" && value !== null && !["helix", "strand"].includes(key)) rows.push([title, value]);
      if (kind === "flags") rows.push([title, value.join(", ") || "no filter"]);
    }
    for (const [title, value] of rows) scores.append(make("dt", title), make("dd", String(value)));
    $("design-label").hidden = !structure.design;
    legend(structure);
    mark();
  }

  function legend(structure) {
    if (!viewer) return;
    const {target, binder, hotspot, design} = viewer.colours;
    const byPlddt = structure.plddt && $("colour").value === "plddt";
    const rows = [[target, "target"]];
    if (byPlddt) {
      const names = ["above 90", "70 to 90", "50 to 70", "below 50"];
      viewer.plddt.forEach(([, colour], i) => rows.push([colour, "binder, pLDDT " + names[i]]));
    } else rows.push([binder, "binder"]);
    if (Object.keys(data.hotspots).length) rows.push([hotspot, "hotspots"]);
    if (structure.design && $("design").checked) rows.push([design, "designed backbone"]);
    $("legend").replaceChildren(...rows.map(([colour, name]) => {
      const item = make("li"), patch = make("span");
      patch.style.background = colour;
      item.append(patch, name);
      return item;
    }));
  }

  function structures() {
    if (!data.structures.length) return;
    $("structures").hidden = false;
    data.structures.forEach((structure, i) => {
      const option = make("option", nameOf(rowOf.get(structure.rank)));
      option.value = String(i);
      $("chosen").append(option);
    });
    try {
      viewer = foldViewer($("scene"), data.layouts, data.hotspots);
    } catch (error) {
      $("scene").append(make("p", "The structures cannot be drawn: this browser has no WebGL. The files are linked in the table."));
    }
    const hasPlddt = data.structures.some(structure => structure.plddt);
    $("colour").parentElement.hidden = !hasPlddt;
    $("hotspots-label").hidden = !Object.keys(data.hotspots).length;
    $("previous").addEventListener("click", () => show(current - 1));
    $("next").addEventListener("click", () => show(current + 1));
    $("chosen").addEventListener("change", event => show(Number(event.target.value)));
    $("scene").addEventListener("keydown", event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (step) { event.preventDefault(); show(current + step); }
    });
    $("reset").addEventListener("click", () => viewer && viewer.reset());
    const option = (id, value) => $(id).addEventListener("change", event => {
      if (viewer) viewer.set(id, value(event.target));
      legend(data.structures[current]);
    });
    option("colour", input => input.value);
    ["side", "design", "labels"].forEach(id => option(id, input => input.checked));
    ["side", "design"].forEach(id => { $(id).checked = false; });
    $("labels").checked = true;
    $("colour").value = "plddt";
    if (viewer) new ResizeObserver(() => viewer.resize()).observe($("scene"));
    show(0);
  }

  // The table.
  const STEP = 100;
  const state = {by: "rank", down: false, limit: STEP};
  const body = $("designs").tBodies[0];

  function order(a, b) {
    const of = row => {
      const value = cell(row, state.by);
      if (value === null) return null;
      const kind = data.columns[column[state.by]][2];
      return kind === "flags" || kind === "files" ? value.length : kind === "cluster" ? value[0] : value;
    };
    const [x, y] = [of(a), of(b)];
    const missing = (x === null) - (y === null);
    const sign = state.down ? -1 : 1;
    return missing || sign * (x < y ? -1 : x > y ? 1 : 0) || cell(a, "rank") - cell(b, "rank");
  }

  function filled(kind, value, row) {
    const td = make("td", undefined, kind);
    if (kind === "flags") value.forEach(name => td.append(make("span", name, "flag")));
    else if (kind === "cluster") {
      td.textContent = value === null ? "" : value[0] + (value[1] ? " ★" : "");
      if (value && value[1]) td.title = "stands for its cluster";
    } else if (kind === "files") {
      for (const [name, path] of value) {
        const link = make("a", name);
        link.href = path.split("/").map(encodeURIComponent).join("/");
        td.append(link);
      }
    } else if (kind === "sequence") {
      td.textContent = value;
      td.title = value;
      td.addEventListener("click", () => { if (getSelection().isCollapsed) td.classList.toggle("open"); });
    } else td.textContent = value === null ? "" : String(value);
    return td;
  }

  function table() {
    const text = $("find").value.trim().toUpperCase();
    const found = row => !text || String(cell(row, "sample")) === text || (cell(row, "sequence") || "").toUpperCase().includes(text);
    const passes = row => !$("only").checked || cell(row, "passes").length > 0;
    const rows = data.rows.filter(row => found(row) && passes(row)).sort(order);
    body.replaceChildren(...rows.slice(0, state.limit).map(row => {
      const tr = make("tr");
      tr.dataset.rank = cell(row, "rank");
      data.columns.forEach(([key, , kind], i) => {
        const td = filled(kind, row[i], row);
        if (key === "rank" && shownAt.has(row[i])) {
          const button = make("button", "3D", "view");
          button.type = "button";
          button.title = "show its structure";
          button.addEventListener("click", () => { show(shownAt.get(row[i])); $("structures").scrollIntoView({behavior: "smooth"}); });
          td.prepend(button, " ");
        }
        tr.append(td);
      });
      return tr;
    }));
    $("shown").textContent = `${Math.min(rows.length, state.limit)} of ${data.rows.length} designs`;
    $("more").hidden = rows.length <= state.limit;
    $("more").textContent = `show all ${rows.length}`;
    mark();
  }

  function mark() {
    const rank = current < 0 ? "" : String(data.structures[current].rank);
    for (const tr of body.rows) tr.classList.toggle("current", tr.dataset.rank === rank);
  }

  function head() {
    const tr = make("tr");
    for (const [key, title, kind] of data.columns) {
      const th = make("th", undefined, kind), button = make("button", title);
      button.type = "button";
      th.scope = "col";
      button.addEventListener("click", () => {
        state.down = state.by === key ? !state.down : kind === "flags";
        state.by = key;
        arrows();
        table();
      });
      th.append(button);
      tr.append(th);
    }
    $("designs").tHead.replaceChildren(tr);
    arrows();
  }

  function arrows() {
    [...$("designs").tHead.rows[0].cells].forEach((th, i) => {
      const [key, title] = data.columns[i];
      const is = state.by === key;
      if (is) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
      th.firstChild.textContent = title + (is ? (state.down ? " ▼" : " ▲") : "");
    });
  }

  $("only-label").hidden = !isScored;
  $("only").checked = false;
  $("find").value = "";
  $("find").addEventListener("input", table);
  $("only").addEventListener("change", table);
  $("more").addEventListener("click", () => { state.limit = Infinity; table(); });
  $("licence-button").addEventListener("click", () => {
    $("licence-text").textContent = json("licence");
    $("licence-text").hidden = !$("licence-text").hidden;
  });
  head();
  structures();
  table();
})();
