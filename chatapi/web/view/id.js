// Ids for elements that refer to each other.
import { useMemo } from "../vendor/htm-preact.js";

let last = 0;

/** An id that is unique to the calling component, and constant while it is mounted. */
export function useId() {
  return useMemo(() => `id-${(last += 1)}`, []);
}
