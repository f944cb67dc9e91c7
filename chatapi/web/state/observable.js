// Observable objects, and the hooks with which components render their changes.
import { useLayoutEffect, useState } from "../vendor/htm-preact.js";

/** An object whose changes components render. A method that changes it calls `changed`, which notifies the watchers. */
export class Observable {
  /** @type {Set<() => void>} */
  #watchers = new Set();
  /** The number of changes so far. */
  version = 0;

  /**
   * @param {() => void} watcher called after each change
   * @returns {() => void} removes the watcher
   */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
    };
  }

  changed() {
    this.version += 1;
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/**
 * Render the calling component again after each change of one of these.
 * @param {...(Observable | null | undefined)} observables the same number in every render
 */
export function useWatch(...observables) {
  const [, render] = useState(0);
  const seen = observables.map((observable) => observable?.version);
  useLayoutEffect(() => {
    const renderAgain = () => render((count) => count + 1);
    const unwatch = observables.map((observable) => observable?.watch(renderAgain));
    // A change between rendering and this effect had no watcher yet.
    if (observables.some((observable, index) => observable?.version !== seen[index])) renderAgain();
    return () => {
      for (const end of unwatch) end?.();
    };
  }, observables);
}

/**
 * Render the calling component at most once per frame. For objects that change many times per second.
 * @param {Observable | null | undefined} observable
 */
export function useWatchByFrame(observable) {
  const [, render] = useState(0);
  const seen = observable?.version;
  useLayoutEffect(() => {
    let frame = 0;
    const draw = () => {
      frame = 0;
      render((count) => count + 1);
    };
    const schedule = () => {
      // A hidden page draws no frames, so it renders at once.
      if (document.hidden) draw();
      else if (!frame) frame = requestAnimationFrame(draw);
    };
    const unwatch = observable?.watch(schedule);
    if (observable?.version !== seen) schedule();
    return () => {
      unwatch?.();
      cancelAnimationFrame(frame);
    };
  }, [observable]);
}
