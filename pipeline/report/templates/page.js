"use strict";
// Every figure is on the page as a picture. Where the browser can, Plotly takes its place.

const touch = matchMedia("(pointer: coarse)").matches;

async function loadPlotly() {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { ink: read("--ink"), quiet: read("--quiet"), rule: read("--rule"), ground: read("--ground") };
}

// Long category names would leave a phone no room for the chart.
function wrapped(axis) {
  if (axis.type !== "category") return {};
  const lines = (name) => name.replace(/(.{14}\S*) /g, "$1<br>");
  return { tickvals: axis.categoryarray, ticktext: axis.categoryarray.map(lines) };
}

function themed(layout, narrow) {
  const { ink, quiet, rule, ground } = colours();
  const size = narrow ? 11 : 13;
  const axis = { gridcolor: rule, linecolor: quiet, tickcolor: quiet, zerolinecolor: rule };
  return {
    ...layout,
    font: { family: getComputedStyle(document.body).fontFamily, size, color: ink },
    hoverlabel: { bgcolor: ground, bordercolor: quiet, font: { color: ink } },
    xaxis: { ...layout.xaxis, ...axis, title: { ...layout.xaxis.title, font: { size } } },
    yaxis: {
      ...layout.yaxis,
      ...axis,
      title: { ...layout.yaxis.title, font: { size } },
      ...(narrow ? wrapped(layout.yaxis) : {}),
    },
    shapes: (layout.shapes ?? []).map((shape) => ({ ...shape, line: { color: quiet, width: 1 } })),
    // A finger on a chart scrolls the page.
    dragmode: touch ? false : "zoom",
  };
}

async function draw(holder) {
  const { data, layout } = JSON.parse(document.getElementById(`data-${holder.dataset.chart}`).textContent);
  const picture = holder.querySelector("img");
  if (picture) {
    holder.setAttribute("role", "img");
    holder.setAttribute("aria-label", picture.alt);
    picture.remove();
  }
  const config = {
    responsive: true,
    displaylogo: false,
    // Named one by one, so that no button that uploads a chart can come with a newer Plotly.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    displayModeBar: touch ? false : "hover",
  };
  await Plotly.react(holder, data, themed(layout, holder.clientWidth < 500), config);
}

async function drawAll() {
  for (const holder of document.querySelectorAll(".chart")) await draw(holder);
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, two) => {
        const [a, b] = [value(one, column), value(two, column)];
        // A dash, which stands for no number, comes last in either direction.
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
        const order = typeof a === "number" ? a - b : a.localeCompare(b);
        return falling ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
if (window.DecompressionStream) {
  loadPlotly()
    .then(drawAll)
    .then(() => {
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
      document.documentElement.dataset.ready = "true";
    });
}
