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
  const patches = data.answers.pictures ? data.answers.pictures.grid[0] * data.answers.pictures.grid[1] : 0, width = Math.ceil(patches / 8);
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

/** An image with dropped patches dimmed, and evidence boxes. */
function paint(canvas, image, question, mask, side, { boxes, dim }) {
  const { grid } = data.answers.pictures, context = canvas.getContext("2d");
  const ratio = Math.min(2, devicePixelRatio || 1);
  canvas.width = canvas.height = side * ratio;
  context.scale(ratio, ratio);
  context.drawImage(image, 0, 0, side, side);
  const [high, wide] = [side / grid[0], side / grid[1]];
  context.fillStyle = `rgb(10 11 14 / ${dim})`;
  for (const [place, kept] of (mask ?? []).entries()) {
    if (kept) continue;
    const [row, column] = [Math.floor(place / grid[1]), place % grid[1]];
    // Rounded to whole pixels, so that neighbouring patches neither overlap nor leave a gap.
    const [x0, y0, x1, y1] = [column * wide, row * high, (column + 1) * wide, (row + 1) * high].map((edge) => Math.round(edge * ratio) / ratio);
    context.fillRect(x0, y0, x1 - x0, y1 - y0);
  }
  // Boxes are drawn with a margin, so that they do not hide the outline of an object.
  const scale = side / data.answers.pictures.side, room = 7;
  for (const [x0, y0, x1, y1] of boxes ? question.boxes : []) {
    for (const [style, width] of [["#000", 3], ["#56B4E9", 1.6]]) {
      context.strokeStyle = style;
      context.lineWidth = width * Math.max(0.7, side / 336);
      context.strokeRect((x0 - room) * scale, (y0 - room) * scale, (x1 - x0 + 2 * room) * scale, (y1 - y0 + 2 * room) * scale);
    }
  }
}
