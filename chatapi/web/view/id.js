// Names for elements that refer to each other.
import { useMemo } from "../vendor/htm-preact.js";

let last = 0;

/** An id of the calling component's own, the same as long as it is shown. */
export function useId() {
  return useMemo(() => `id-${(last += 1)}`, []);
}
