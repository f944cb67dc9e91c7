// Idempotency keys.

/** Return 128 random bits in hexadecimal; `crypto.randomUUID` exists on https only. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
