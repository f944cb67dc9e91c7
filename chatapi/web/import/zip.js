// Reads ZIP files (APPNOTE 6.3.10) without loading them: the list of entries at the end, then one entry at a time. Sizes and
// counts are checked before work is done for them.
import { FileError } from "./json-elements.js";

const END = 0x06054b50;
const END_BYTES = 22; // without the comment
const LONG_END_LOCATOR = 0x07064b50;
const LONG_END_LOCATOR_BYTES = 20;
const LONG_END = 0x06064b50;
const LONG_END_BYTES = 56;
const LISTED = 0x02014b50;
const LISTED_BYTES = 46; // without the name, extra fields and comment
const LOCAL = 0x04034b50;
const LOCAL_BYTES = 30; // without the name and extra fields
const IS_LONG = 0xffffffff; // the value is in the extra field
const LONG_FIELD = 1;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;
const MAX_COMMENT_BYTES = 65_535;
const MAX_LIST_BYTES = 64 * 1024 * 1024;
const MAX_ENTRIES = 200_000;
const MAX_RATIO = 200; // of the size to the compressed size, for entries above `MIN_RATIO_BYTES`; JSON has about 10
const MIN_RATIO_BYTES = 1024 * 1024;
const CRC_POLYNOMIAL = 0xedb88320; // of CRC-32 (APPNOTE, section 4.4.7), its lowest bit first
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => remainderOf(byte));

/**
 * An entry: its path, the size and the CRC-32 of its content, and where that is.
 * @typedef {{path: string, size: number, crc: number, compressed: number, offset: number, method: number,
 *   isEncrypted: boolean}} Entry
 */

/** @param {Blob} file */
export async function isZip(file) {
  const start = await bytesOf(file, 0, 4);
  return start.byteLength === 4 && [LOCAL, END].includes(start.getUint32(0, true));
}

/**
 * Read the list of entries.
 * @param {Blob} file
 * @returns {Promise<Entry[]>}
 * @throws {FileError}
 */
export async function readEntries(file) {
  const { offset, bytes, count } = await findList(file);
  if (count > MAX_ENTRIES || bytes > MAX_LIST_BYTES || offset + bytes > file.size) throw new FileError();
  const list = await bytesOf(file, offset, bytes);
  /** @type {Entry[]} */
  const entries = [];
  for (let at = 0; entries.length < count; ) {
    if (at + LISTED_BYTES > bytes || list.getUint32(at, true) !== LISTED) throw new FileError();
    const [name, extra, comment] = [list.getUint16(at + 28, true), list.getUint16(at + 30, true), list.getUint16(at + 32, true)];
    const end = at + LISTED_BYTES + name + extra + comment;
    if (end > bytes) throw new FileError();
    const path = new TextDecoder().decode(new Uint8Array(list.buffer, at + LISTED_BYTES, name));
    const [size, compressed, place] = sizesOf(list, at, at + LISTED_BYTES + name, extra);
    const method = list.getUint16(at + 10, true);
    const isEncrypted = (list.getUint16(at + 8, true) & ENCRYPTED) !== 0;
    const crc = list.getUint32(at + 16, true);
    entries.push({ path, size, crc, compressed, offset: place, method, isEncrypted });
    at = end;
  }
  return entries;
}

/**
 * The content of an entry. The stream fails if it does not have the size and the CRC-32 that the list states.
 * @param {Blob} file
 * @param {Entry} entry
 * @returns {Promise<ReadableStream<Uint8Array>>}
 * @throws {FileError}
 */
export async function openEntry(file, { offset, size, crc, compressed, method, isEncrypted }) {
  const isBomb = size > MIN_RATIO_BYTES && size > MAX_RATIO * compressed;
  if (isEncrypted || isBomb || ![STORED, DEFLATED].includes(method)) throw new FileError();
  const head = await bytesOf(file, offset, LOCAL_BYTES);
  if (head.byteLength < LOCAL_BYTES || head.getUint32(0, true) !== LOCAL) throw new FileError();
  const start = offset + LOCAL_BYTES + head.getUint16(26, true) + head.getUint16(28, true);
  if (start + compressed > file.size) throw new FileError();
  const content = file.slice(start, start + compressed).stream();
  const plain = method === STORED ? content : content.pipeThrough(new DecompressionStream("deflate-raw"));
  return plain.pipeThrough(new TransformStream(exactly(size, crc)));
}

/**
 * Passes on a stream of exactly this many bytes with this CRC-32; another one fails, a longer one as soon as it is.
 * @param {number} size
 * @param {number} crc
 * @returns {Transformer<Uint8Array, Uint8Array>}
 */
function exactly(size, crc) {
  let bytes = 0;
  let remainder = 0xffffffff;
  return {
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      if (bytes > size) throw new FileError();
      for (const byte of chunk) remainder = /** @type {number} */ (CRC_TABLE[(remainder ^ byte) & 0xff]) ^ (remainder >>> 8);
      controller.enqueue(chunk);
    },
    flush() {
      if (bytes !== size || ~remainder >>> 0 !== crc) throw new FileError();
    },
  };
}

/** The remainder of one byte, for `CRC_TABLE`. @param {number} byte */
function remainderOf(byte) {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit += 1) remainder = (remainder >>> 1) ^ (remainder & 1 ? CRC_POLYNOMIAL : 0);
  return remainder >>> 0;
}

/**
 * Find the list: from its description at the end of the file, before which a long file has another one.
 * @param {Blob} file
 */
async function findList(file) {
  const from = Math.max(0, file.size - END_BYTES - MAX_COMMENT_BYTES);
  const tail = await bytesOf(file, from, file.size - from);
  let at = tail.byteLength - END_BYTES;
  while (at >= 0 && !(tail.getUint32(at, true) === END && at + END_BYTES + tail.getUint16(at + 20, true) === tail.byteLength)) at -= 1;
  if (at < 0) throw new FileError();
  const locator = await bytesOf(file, from + at - LONG_END_LOCATOR_BYTES, LONG_END_LOCATOR_BYTES);
  if (locator.byteLength === LONG_END_LOCATOR_BYTES && locator.getUint32(0, true) === LONG_END_LOCATOR) {
    const end = await bytesOf(file, long(locator, 8), LONG_END_BYTES);
    if (end.byteLength < LONG_END_BYTES || end.getUint32(0, true) !== LONG_END) throw new FileError();
    return { count: long(end, 32), bytes: long(end, 40), offset: long(end, 48) };
  }
  return { count: tail.getUint16(at + 10, true), bytes: tail.getUint32(at + 12, true), offset: tail.getUint32(at + 16, true) };
}

/**
 * The size, the compressed size and the offset of the entry that is listed at `at`; large ones are in its extra fields.
 * @param {DataView} list
 * @param {number} at
 * @param {number} extra where its extra fields start
 * @param {number} bytes of its extra fields
 */
function sizesOf(list, at, extra, bytes) {
  const values = [list.getUint32(at + 24, true), list.getUint32(at + 20, true), list.getUint32(at + 42, true)];
  for (let field = extra; field + 4 <= extra + bytes; ) {
    const length = list.getUint16(field + 2, true);
    if (list.getUint16(field, true) === LONG_FIELD) {
      let next = field + 4;
      const end = Math.min(next + length, extra + bytes);
      return values.map((value) => {
        if (value !== IS_LONG || next + 8 > end) return value;
        next += 8;
        return long(list, next - 8);
      });
    }
    field += 4 + length;
  }
  return values;
}

/** A number of 8 bytes. @param {DataView} view @param {number} at */
function long(view, at) {
  return Number(view.getBigUint64(at, true));
}

/** @param {Blob} file @param {number} from @param {number} count @returns {Promise<DataView>} shorter at the end of the file */
async function bytesOf(file, from, count) {
  if (from < 0 || from > file.size) return new DataView(new ArrayBuffer(0));
  return new DataView(await file.slice(from, from + count).arrayBuffer());
}
