// The parts of Preact and htm that the page uses. Attributes and children are untyped, because htm cannot check them.

export interface VNode {
  type: unknown;
  props: unknown;
  key: unknown;
}

export type Child = VNode | string | number | boolean | null | undefined | Child[];
export type Props<P> = P & { children?: any; key?: string | number };

export function html(strings: TemplateStringsArray, ...values: any[]): VNode;
export function h(type: any, props?: any, ...children: any[]): VNode;
export function render(node: Child, parent: Element | DocumentFragment): void;

export abstract class Component<P = {}, S = {}> {
  constructor(props?: P, context?: any);
  props: Props<P>;
  state: S;
  base?: Node;
  setState(state: Partial<S> | ((state: S, props: P) => Partial<S> | null), done?: () => void): void;
  forceUpdate(done?: () => void): void;
  abstract render(props?: Props<P>, state?: S): Child;
  componentDidMount?(): void;
  componentDidUpdate?(before: P, stateBefore: S): void;
  componentDidCatch?(error: unknown): void;
  componentWillUnmount?(): void;
  shouldComponentUpdate?(next: P, nextState: S): boolean;
}

export interface Context<T> {
  Provider: (props: { value: T; children?: any }) => VNode;
  Consumer: (props: { children: (value: T) => Child }) => VNode;
}
export function createContext<T>(initial: T): Context<T>;

export type Ref<T> = { current: T };
type Inputs = readonly unknown[];
type Update<S> = S | ((state: S) => S);

export function useState<S>(initial: S | (() => S)): [S, (update: Update<S>) => void];
export function useReducer<S, A>(reducer: (state: S, action: A) => S, initial: S): [S, (action: A) => void];
export function useEffect(effect: () => void | (() => void), inputs?: Inputs): void;
export function useLayoutEffect(effect: () => void | (() => void), inputs?: Inputs): void;
export function useRef<T>(initial: T): Ref<T>;
export function useRef<T>(initial: T | null): Ref<T | null>;
export function useMemo<T>(make: () => T, inputs?: Inputs): T;
export function useCallback<F extends (...given: any[]) => any>(callback: F, inputs?: Inputs): F;
export function useContext<T>(context: Context<T>): T;
export function useErrorBoundary(caught?: (error: unknown) => void): [unknown, () => void];
