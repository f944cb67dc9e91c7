// Reads an answer aloud with the voices of the browser, without its markup.
import { plainText } from "../markdown/plain-text.js";
import { Observable, useWatch } from "../state/observable.js";
import { strings } from "../strings.js";
import { html, useEffect } from "../vendor/htm-preact.js";
import { IconButton } from "./icons.js";

const MAX_CHARACTERS = 20_000;
const SENTENCES = /[^.!?。！？؟]{1,400}[.!?。！？؟]*\s*/g; // voices stop in the middle of long texts

class Voice extends Observable {
  /** The message that is read. @type {string | null} */
  reads = null;

  /**
   * Read a text in place of the one that is read now.
   * @param {string} id
   * @param {string} text Markdown
   */
  read(id, text) {
    this.stop();
    const sentences = plainText(text, MAX_CHARACTERS).match(SENTENCES) ?? [];
    const utterances = sentences.map((sentence) => new SpeechSynthesisUtterance(sentence));
    const last = utterances.at(-1);
    if (last === undefined) return;
    last.onend = () => this.reads === id && this.stop();
    for (const utterance of utterances) {
      utterance.onerror = () => this.reads === id && this.stop();
      speechSynthesis.speak(utterance);
    }
    this.reads = id;
    this.changed();
  }

  stop() {
    if (this.reads === null) return;
    this.reads = null;
    speechSynthesis.cancel();
    this.changed();
  }
}

const voice = new Voice();

/** @param {{id: string, text: string}} properties */
export function ReadAloudButton({ id, text }) {
  useWatch(voice);
  useEffect(() => () => void (voice.reads === id && voice.stop()), [id]);
  if (!("speechSynthesis" in globalThis)) return null;
  const isReading = voice.reads === id;
  return html`<${IconButton} icon=${isReading ? "stop" : "speak"} pressed=${isReading} onClick=${() => (isReading ? voice.stop() : voice.read(id, text))}
    label=${isReading ? strings.message.stopReading : strings.message.read} />`;
}
