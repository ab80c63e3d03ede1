// All answers of all runs, and the images; unpacked when they are first shown.

const questions = data.answers?.questions ?? [];
const NOTHING = 0xFFFFFFFF;
const blocks = new Map(), pictures = new Map();

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/** The answers of a run: a function from the index of a question to its kept tokens and answer; null for failed samples. */
function answersOf(run) {
  if (!blocks.has(run)) blocks.set(run, inflated(data.answers.runs[run]).then(unpacked));
  return blocks.get(run);
}

function unpacked(buffer) {
  const count = questions.length, bytes = new Uint8Array(buffer, 20 * count);
  const [masks, said] = [0, 1].map((part) => new Uint32Array(buffer, 4 * count * part, count));
  const [scores, tokens, recalls] = [2, 3, 4].map((part) => new Float32Array(buffer, 4 * count * part, count));
  // All masks are as long as that of the image with most tokens.
  const patches = data.answers.pictures?.tokens ?? 0, width = Math.ceil(patches / 8);
  const bits = (number) => Array.from({ length: patches }, (_, place) => (bytes[number * width + (place >> 3)] >> (7 - (place & 7))) & 1);
  return (number) => (said[number] === NOTHING ? null : {
    mask: masks[number] === NOTHING ? null : bits(masks[number]),
    said: data.answers.predictions[said[number]] || "(nothing)", right: scores[number] >= 0.5, score: scores[number],
    tokens: Math.round(10 * tokens[number]) / 10, recall: Number.isNaN(recalls[number]) ? null : recalls[number],
  });
}

/** An image, decoded when it is first shown; null if the report does not contain it. */
function pictureOf(place) {
  const source = data.answers.pictures?.sources[place];
  if (!source) return Promise.resolve(null);
  if (!pictures.has(place)) {
    const image = new Image();
    image.src = source;
    pictures.set(place, image.decode().then(() => image));
  }
  return pictures.get(place);
}

const patchesOf = (mask) => mask.reduce((sum, bit) => sum + bit, 0);

/** A sentence for tokens that are merged from several patches, which the dimmed image cannot show. */
function mergedFrom(answer) {
  const patches = answer?.mask ? patchesOf(answer.mask) : 0;
  return patches > 1.05 * answer?.tokens ? `merged from ${patches}` : "";
}

const verdict = (answer) => (answer ? (answer.right ? "✓ " : "✗ ") + answer.said : "failed");

/** Where the tokens of an image lie. */
const layoutOf = (place) => data.answers.pictures.layouts[data.answers.pictures.layout[place]];

const gridTokens = ({ x, y }) => (x.length - 1) * (y.length - 1);

/** Number of visual tokens of an image. */
const tokensOf = (place) => layoutOf(place).grids.reduce((sum, grid) => sum + gridTokens(grid), 0);

/** Left, top and scale of an image in a square: the finest tokens, and beside them, small, coarser ones such as a thumbnail's. */
function placesOf({ size: [width, height], grids }, side, dimmed) {
  const fitted = (left, most) => {
    const scale = most / Math.max(width, height);
    return { left: left + (most - width * scale) / 2, top: (side - height * scale) / 2, scale };
  };
  if (!dimmed || grids.every(({ fine }) => fine)) return [fitted(0, side)];
  const large = fitted(0, 0.74 * side);
  return [large, { ...fitted(0.76 * side, 0.24 * side), top: large.top }];
}

/** Dim the tokens of a kind, fine or not, that are not kept. */
function dimTokens(context, { grids }, mask, fine, { left, top, scale }, ratio) {
  let begin = 0;
  for (const grid of grids) {
    const columns = grid.x.length - 1;
    for (let place = 0; grid.fine === fine && place < gridTokens(grid); place++) {
      if (mask[begin + place]) continue;
      const row = Math.floor(place / columns), column = place % columns;
      // Rounded to whole pixels, so that neighbouring tokens neither overlap nor leave a gap.
      const [x0, x1] = [grid.x[column], grid.x[column + 1]].map((edge) => Math.round((left + edge * scale) * ratio) / ratio);
      const [y0, y1] = [grid.y[row], grid.y[row + 1]].map((edge) => Math.round((top + edge * scale) * ratio) / ratio);
      context.fillRect(x0, y0, x1 - x0, y1 - y0);
    }
    begin += gridTokens(grid);
  }
}

/** Where the frames of a video lie in the picture of all of them; empty for an image. */
const framesOf = ({ grids }) => (grids.length > 1 ? grids.filter(({ kind }) => kind === "frame") : []);

/** All of an image: its layout, mask and boxes, and left and top of what is shown of it. */
const wholeOf = (layout, mask, boxes) => ({ layout, mask, boxes, left: 0, top: 0 });

/** The same of one frame of a video, as if it were an image. */
function frameOf(layout, mask, boxes, number) {
  const grids = framesOf(layout), { x, y, ...grid } = grids[number], [left, top] = [x[0], y[0]];
  const size = [x.at(-1) - left, y.at(-1) - top], begin = grids.slice(0, number).reduce((sum, one) => sum + gridTokens(one), 0);
  return {
    layout: { size, grids: [{ ...grid, x: x.map((edge) => edge - left), y: y.map((edge) => edge - top) }] },
    mask: mask?.slice(begin, begin + gridTokens(grids[number])) ?? null,
    boxes: boxes.map(([x0, y0, x1, y1]) => [x0 - left, y0 - top, x1 - left, y1 - top]).filter(([x0, y0, x1, y1]) => x0 < size[0] && y0 < size[1] && x1 > 0 && y1 > 0),
    left, top,
  };
}

/** An image, or one frame of a video, with dropped tokens dimmed, and evidence boxes. */
function paint(canvas, image, question, kept, side, { boxes, dim, frame = null }) {
  const full = layoutOf(question.image), view = framesOf(full).length > frame && frame !== null ? frameOf : wholeOf;
  const { layout, mask, boxes: needed, ...corner } = view(full, kept, question.boxes, frame);
  const context = canvas.getContext("2d"), [width, height] = layout.size;
  // The report may hold the picture smaller than its layout says.
  const held = image.naturalWidth / full.size[0];
  const ratio = Math.min(2, devicePixelRatio || 1), places = placesOf(layout, side, mask);
  canvas.width = canvas.height = side * ratio;
  context.scale(ratio, ratio);
  places.forEach((place, number) => {
    context.drawImage(image, corner.left * held, corner.top * held, width * held, height * held,
      place.left, place.top, width * place.scale, height * place.scale);
    context.fillStyle = `rgb(10 11 14 / ${dim})`;
    if (mask) dimTokens(context, layout, mask, number === 0, place, ratio);
  });
  // Boxes are drawn with a margin, so that they do not hide the outline of an object.
  const { left, top, scale } = places[0], room = 7 * side / 336;
  for (const [x0, y0, x1, y1] of boxes ? needed : []) {
    for (const [style, line] of [["#000", 3], ["#56B4E9", 1.6]]) {
      context.strokeStyle = style;
      context.lineWidth = line * Math.max(0.7, side / 336);
      context.strokeRect(left + x0 * scale - room, top + y0 * scale - room, (x1 - x0) * scale + 2 * room, (y1 - y0) * scale + 2 * room);
    }
  }
}
