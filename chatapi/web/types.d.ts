// Types of the public API (docs/http.md).

export type Status = "running" | "completed" | "stopped" | "failed" | "interrupted";

export interface Usage {
  input_tokens: number | null;
  output_tokens: number | null;
  reasoning_tokens: number | null;
  cached_tokens: number | null;
  estimated: boolean;
}

export interface Part {
  type: string;
  text?: string;
  call_id?: string;
  name?: string;
  arguments?: string;
  annotation?: { type?: string; url?: string; title?: string; url_citation?: { url?: string; title?: string } };
  url?: string;
  data?: string;
  file_id?: string;
  filename?: string;
}

export interface Message {
  id: string;
  role: "user" | "assistant" | "tool" | "system" | "developer";
  content: string;
  parts: Part[];
  status: Status;
  model: string | null;
  usage: Usage | null;
  created_at: string;
  parent_id: string | null;
  sibling_ids: string[];
  generation_id?: string;
  finish_reason?: string | null;
  error?: { code: string; detail: string | null } | null;
  first_token_at?: string | null;
  ended_at?: string | null;
}

export interface Session {
  session_id: string;
  developer_message: string;
  message_count: number;
  created_at: string;
  last_updated: string;
  title: string | null;
  metadata: Record<string, string>;
  head: string | null;
  temporary: boolean;
}

export interface Page<T> {
  data: T[];
  next_cursor: string | null;
}

export interface Hit {
  session_id: string;
  title: string | null;
  message_id: string | null;
  role: string | null;
  created_at: string;
  snippet: string;
  match: [number, number];
}

export interface Config {
  version: string;
  demo: boolean;
  demo_key: string | null;
  key: { pattern: string; prefix: string | null; length: number | null };
  default_model: string;
  default_model_notice: string | null;
  max_message_bytes: number;
  max_body_bytes: number;
  max_media_bytes: number;
}

export interface Price {
  input: number;
  cached_input?: number | null;
  output: number;
}

export interface Prices {
  as_of: string | null;
  currency: string | null;
  models: Record<string, Price>;
}

export interface UsageRow {
  day?: string;
  model?: string;
  session_id?: string | null;
  title?: string | null;
  answers: number;
  input_tokens: number;
  output_tokens: number;
  reasoning_tokens: number;
  cached_tokens: number;
  estimated: number;
  unknown: number;
  unpriced: number;
  cost: number | null;
}

export interface UsageReport {
  data: UsageRow[];
  totals: UsageRow;
  prices: { as_of: string; currency: string } | null;
}

export type Attachment =
  | { type: "image"; url: string; name: string }
  | { type: "file"; data: string; filename: string; name: string };

/** Settings of a session, stored in its metadata. An empty value means the model's default. */
export interface ChatSettings {
  model: string;
  temperature: string;
  top_p: string;
  max_completion_tokens: string;
  reasoning_effort: string;
  seed: string;
}

/** A link with which anyone can read a session. */
export interface Share {
  id: string;
  created_at: string;
  expires_at: string;
}

/** What a link shows. */
export interface SharedSession {
  title: string | null;
  created_at: string;
  expires_at: string;
  messages: { role: "user" | "assistant"; parts: Part[] }[];
}
