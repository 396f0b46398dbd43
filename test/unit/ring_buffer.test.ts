/** The ring buffer of events against a list: what is read, what is lost, and when. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  RingBufferIter,
  RingBufferPerCpu,
  ring_buffer_consume,
  ring_buffer_entries,
  ring_buffer_iter_advance,
  ring_buffer_iter_peek,
  ring_buffer_iter_start,
  ring_buffer_peek,
  ring_buffer_reset,
  ring_buffer_write,
} from '../../src/lib/ring_buffer.ts';
import { Random } from '../model/random.ts';

interface Event {
  time: number;
  words: number[];
}

const PAGE_BYTES = 4080;

function write(b: RingBufferPerCpu, event: Event): boolean {
  return ring_buffer_write(b, event.time, Int32Array.from(event.words), event.words.length);
}

function event_of(b: RingBufferPerCpu, it: RingBufferIter): Event {
  return { time: it.time, words: [...b.words.subarray(it.data, it.data + it.length)] };
}

/** All that is there, without taking it. */
function list(b: RingBufferPerCpu): Event[] {
  const events: Event[] = [];
  const it = ring_buffer_iter_start(b);
  while (ring_buffer_iter_peek(b, it)) {
    events.push(event_of(b, it));
    ring_buffer_iter_advance(b, it);
  }
  return events;
}

/** Takes one event: the event and how many were lost before it; null when there is none. */
function take(b: RingBufferPerCpu): { event: Event; lost: number } | null {
  const it = new RingBufferIter();
  if (!ring_buffer_peek(b, it)) return null;
  const lost = b.lost_events;
  const event = event_of(b, it);
  ring_buffer_consume(b, it);
  return { event, lost };
}

test('events of 44 bytes: 92 a page, and the oldest page goes as a whole', () => {
  const b = new RingBufferPerCpu(2, PAGE_BYTES);
  const event = (i: number): Event => ({ time: i * 1000, words: [i, 0, 0, 0, 0, 0, 0, 0, 0, 0] });
  for (let i = 0; i < 2 * 92; i++) write(b, event(i));
  assert.equal(b.overrun, 0);
  assert.equal(list(b).length, 184);
  write(b, event(184));
  assert.equal(b.overrun, 92);
  assert.deepEqual(
    list(b).map((e) => e.words[0]),
    Array.from({ length: 93 }, (_, i) => 92 + i),
  );
});

test('what the reader has begun to read is not overwritten', () => {
  const b = new RingBufferPerCpu(2, PAGE_BYTES);
  const event = (i: number): Event => ({ time: i, words: new Array(10).fill(i) });
  for (let i = 0; i < 92; i++) write(b, event(i));
  assert.equal(take(b)!.event.words[0], 0);
  for (let i = 92; i < 92 * 5; i++) write(b, event(i));
  for (let i = 1; i < 92; i++) assert.equal(take(b)!.event.words[0], i);
  const next = take(b)!;
  assert.equal(next.lost, 92 * 2);
  assert.equal(next.event.words[0], 92 * 3);
  assert.equal(take(b)!.lost, 0);
});

test('times survive any distance, also beyond 27 bits of nanoseconds', () => {
  const b = new RingBufferPerCpu(2, PAGE_BYTES);
  const times = [5, 6, 2 ** 27, 2 ** 27 + 5, 2 ** 40 + 3, 2 ** 40 + 3, 2 ** 52, 2 ** 52 + 2 ** 28];
  for (const time of times) write(b, { time, words: [1] });
  assert.deepEqual(
    list(b).map((e) => e.time),
    times,
  );
});

test('an event larger than a page is refused; reset forgets all', () => {
  const b = new RingBufferPerCpu(2, PAGE_BYTES);
  assert.equal(write(b, { time: 1, words: new Array(1018).fill(7) }), true);
  assert.equal(write(b, { time: 1, words: new Array(1019).fill(7) }), false);
  assert.equal(list(b).length, 1);
  ring_buffer_reset(b);
  assert.deepEqual(list(b), []);
  assert.equal(take(b), null);
});

for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
  test(`random writes and reads, seed ${seed}`, () => {
    const prng = new Random(seed);
    const random = (n: number): number => prng.below(n);
    const pages = 2 + random(4);
    const b = new RingBufferPerCpu(pages, PAGE_BYTES);
    const written: Event[] = [];
    let read = 0;
    let lost_before = 0;
    let time = 0;
    for (let round = 0; round < 500; round++) {
      const burst = random(10) === 0 ? random(400) : random(4);
      for (let i = 0; i < burst; i++) {
        time += random(5) === 0 ? random(2 ** 29) : random(1000);
        const words = Array.from({ length: 1 + random(60) }, () => random(2 ** 31));
        words[0] = written.length;
        written.push({ time, words });
        write(b, written[written.length - 1]!);
      }
      if (random(3) === 0) {
        const there = list(b);
        assert.equal(there.length, ring_buffer_entries(b));
        // The newest are always there, in order; what the reader's page holds may be older.
        const tail = there.slice(-5);
        assert.deepEqual(tail, written.slice(written.length - tail.length));
        for (let i = 1; i < there.length; i++) {
          assert.ok(there[i]!.words[0]! > there[i - 1]!.words[0]!);
        }
      }
      for (let i = random(120); i > 0; i--) {
        const taken = take(b);
        if (taken === null) break;
        read += taken.lost;
        lost_before += taken.lost;
        assert.deepEqual(taken.event, written[read], `event ${read}, lost ${taken.lost}`);
        read++;
      }
      assert.equal(b.entries, written.length);
    }
    for (let taken = take(b); taken !== null; taken = take(b)) {
      read += taken.lost;
      lost_before += taken.lost;
      assert.deepEqual(taken.event, written[read]);
      read++;
    }
    assert.equal(read, written.length);
    assert.equal(lost_before, b.overrun);
  });
}
