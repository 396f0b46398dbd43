/**
 * What carries requests from programs to Operations, and answers back.
 *
 * A transport turns its own form of a request into calls by node on Operations, answers each
 * exactly once, at once or later, with a result or a negative errno, and decides nothing else.
 * There are three: FuseNativeTransport (A), the default; InProcessTransport (0), for tests that
 * need no kernel; a channel of our own will be the third. All pass one conformance suite,
 * test/e2e/transport.conformance.ts.
 */
export interface Transport {
  readonly name: string;
  /** Resolves when the tree answers; rejects with a Failure when it cannot be mounted. */
  mount(): Promise<void>;
  /** Takes the tree away. Resolves also when somebody else has already done so. */
  unmount(): Promise<void>;
}

/** An expected failure: its message is the one line that tells the user what to do. */
export class Failure extends Error {
  override name = 'Failure';
}
