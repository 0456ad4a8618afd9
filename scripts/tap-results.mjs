// Reads the TAP that `tap --reporter=tap` prints, file by file, and counts assertions. Stricter than tap itself:
// a file without any assertion has failed.

/**
 * @typedef {object} FileResult
 * @property {string} file
 * @property {number} passed assertions
 * @property {number} failed assertions; at least 1 when the file failed for another reason
 * @property {Map<string, number>} skipped number of skipped tests by reason
 * @property {string | null} problem why the file failed although no assertion did
 * @property {string[]} lines what the file printed
 */

const POINT = /^( *)(not ok|ok)\b *(\d+)?(?: - )?(.*?)(?:(?<!\\) # (SKIP|TODO)\b ?(.*)| # time=.*)?$/i;
const DEEPER = /^( *)(?:1\.\.\d+|# Subtest)/;
const NO_TESTS = 'no tests found';

function emptyResult() {
  return { file: '', passed: 0, failed: 0, skipped: new Map(), problem: null, lines: [] };
}

function skip(result, reason) {
  const text = reason.trim().replaceAll('\\#', '#');
  result.skipped.set(text, (result.skipped.get(text) ?? 0) + 1);
}

/** Feed it lines; it calls `onFile` with a FileResult whenever a file has ended. */
export class TapReader {
  #onFile;
  #result = emptyResult();
  /** Indents at which something was seen since the last point further out: their next outer point is a parent. */
  #deepest = 0;
  /** Indent of the YAML block being skipped, or -1. */
  #yaml = -1;
  #last = null;

  constructor({ onFile }) {
    this.#onFile = onFile;
  }

  line(text) {
    const yaml = /^( *)(---|\.\.\.)$/.exec(text);
    // What was cut short within a block leaves it open: a line further out ends it.
    if (text !== '' && /^ */.exec(text)[0].length < this.#yaml) this.#yaml = -1;
    if (this.#yaml >= 0 || yaml) {
      this.#yamlLine(text, yaml);
      return;
    }
    const point = POINT.exec(text);
    if (!point) {
      this.#endFile();
      const indent = DEEPER.exec(text)?.[1].length ?? 0;
      if (indent > 0) this.#deepest = Math.max(this.#deepest, indent);
      this.#result.lines.push(text);
      return;
    }
    const [, spaces, ok, , name, directive, reason] = point;
    const indent = spaces.length;
    if (indent === 0) {
      this.#endFile();
      this.#last = { name: name.trim(), ok: ok === 'ok', directive, reason, details: [] };
      this.#deepest = 0;
      return;
    }
    this.#endFile();
    this.#result.lines.push(text);
    const parent = this.#deepest > indent;
    this.#deepest = indent;
    if (directive) skip(this.#result, `${directive === 'TODO' ? 'to do: ' : ''}${reason || name}`);
    else if (!parent) this.#result[ok === 'ok' ? 'passed' : 'failed']++;
  }

  end() {
    this.#endFile();
  }

  #yamlLine(text, fence) {
    if (this.#last) this.#last.details.push(text);
    else this.#result.lines.push(text);
    if (this.#yaml < 0) this.#yaml = fence[2] === '---' ? fence[1].length : -1;
    else if (fence?.[2] === '...' && fence[1].length === this.#yaml) this.#yaml = -1;
  }

  #endFile() {
    const last = this.#last;
    if (last === null) return;
    const result = this.#result;
    this.#last = null;
    this.#result = emptyResult();
    result.file = last.name;
    result.lines.push(...last.details);
    if (last.directive && last.reason.trim() !== NO_TESTS) skip(result, last.reason);
    if (!last.ok && result.failed === 0) {
      const signal = last.details.find((line) => /^ *(signal: \S+|exitCode: [1-9]\d*|expired: .*)$/.test(line));
      this.#fail(result, signal ? signal.trim() : 'failed');
    } else if (result.passed + result.failed + result.skipped.size === 0) this.#fail(result, 'ran no assertion');
    this.#onFile(result);
  }

  #fail(result, problem) {
    result.problem = problem;
    result.failed++;
  }
}
