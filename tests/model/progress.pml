/*
 * Whole programs on an exhausted pool: gateways that call each other in a chain, all in one engine
 * so that they share one pool, beside a neighbour that keeps what it receives (protocol/pool.py,
 * protocol/decoder.py, messaging/flow_control/read_gate.py).
 *
 * A client makes several calls at once, keeps every response until it has all of them, as
 * asyncio.gather does, and starts again. A call goes through a number of levels. At each level a
 * handler receives the request, keeps it while it calls the next level, and replies; at the last
 * level it replies at once. Before each of its responses the first level sends a signal on the
 * same channel. The client reads the signals in its own time. The neighbour's peer sends without
 * end, and the neighbour releases messages until, at a moment of its own choice, it stops.
 *
 * A channel has two ends. What is sent to an end waits in a small buffer, the kernel's, and is
 * received in order. A full buffer blocks the sender, and a message that cannot be received blocks
 * those behind it. A message is drawn from one of three places: an awaited response from nothing;
 * any other from the reserve of its end, or else from the pool, unless somebody waits there or the
 * end has its share. Otherwise the end is suspended. It resumes when it is first in the queue and
 * the pool has enough, or, out of turn, when its reserve comes back. An end that has its share is
 * not in the queue. With LENDING, while an application waits for an end's next message, what it
 * keeps of that end is lent to it, a few messages at most, which frees the reserve.
 *
 * Each step here is a turn of the loop. That a release is noticed is left to reserves.pml and
 * permits.pml.
 *
 * Checked, under weak fairness: every round of calls ends, whatever the neighbour does, and no end
 * stays suspended while it holds nothing. In every state: what comes back was out, some call can
 * go on, and one end with short messages does not have all permits.
 *
 * Each of these macros removes one rule: NO_RESERVE, RESPONSES_NEED_PERMITS, RESERVE_BEHIND_QUEUE,
 * NO_SHARE. Others change the program: CYCLE (two peers call each other back over one channel),
 * UNREAD (the client reads no signals), LOOP_VARIABLE (the last level keeps each request until it
 * has the next, which only LENDING allows), LONG (each of the neighbour's messages needs all
 * permits), ALONE (there is no neighbour).
 */

#ifndef PERMITS
#define PERMITS 1
#endif
#ifndef CALLS
#define CALLS   2 /* at once */
#endif
#ifndef LEVELS
#define LEVELS  2
#endif
#define ROOM    1 /* messages between two ends */
#ifdef LENDING
#define LENT    1 /* messages of each end, to the application; account.py allows a few */
#else
#define LENT    0
#endif

/* Where the request of a level is received, and where its response. */
#ifdef CYCLE
#define CHAIN      2
#define callee(l)  ((l) % 2)
#define caller(l)  (((l) + 1) % 2)
#else
#define CHAIN      (2 * LEVELS)
#define callee(l)  (2 * (l))
#define caller(l)  (2 * (l) + 1)
#endif
#define NEIGHBOUR  CHAIN
#define ENDS       (CHAIN + 1)

/* What is sent: the message of a call, the signal of a call, or the neighbour's. */
#define signal(c)    (CALLS + (c))
#define NEIGHBOURLY  (2 * CALLS)

#ifdef LONG
#define price(e) ((e) == NEIGHBOUR -> PERMITS : 1)
#else
#define price(e) 1
#endif

chan buffer[ENDS] = [ROOM] of { byte };
chan queue = [ENDS] of { byte };   /* Pool.waiters */
byte free = PERMITS;               /* Pool.free */
byte held[ENDS];                   /* Account.held */
bool reserved[ENDS];               /* Account.reserved: its reserve is in use */
byte lent[ENDS];                   /* Account.lent: what was lent to the application */
bool suspended[ENDS];

bool answers[CALLS];               /* what is under way is a response */
bool arrived[CALLS];
byte worth[CALLS];                 /* what has arrived holds so much */
byte loose[ENDS];                  /* so much is held by signals and by what the neighbour has */
#ifdef LOOP_VARIABLE
byte variable;                     /* what the last level keeps beyond its reply */
#endif
byte answered;                     /* calls of this round */
bool round;

#define larger(a, b) ((a) > (b) -> (a) : (b))

/* Account.over_share: it is its own messages that it waits for. */
#ifdef NO_SHARE
#define over_share(e) false
#else
#define over_share(e) \
	(held[e] + price(e) > larger((larger(free, price(e)) + held[e]) / 2, 1))
#endif

#ifdef RESPONSES_NEED_PERMITS
#define awaited(m) false
#else
#define awaited(m) (m < CALLS && answers[m])
#endif

#ifdef NO_RESERVE
#define has_reserve(e) false
#else
#define has_reserve(e) !reserved[e]
#endif

inline receive(e, holds) {
	buffer[e] ? m;
	if
	:: m < CALLS -> worth[m] = holds; arrived[m] = true
	:: else -> loose[e] = loose[e] + holds
	fi;
	m = 0
}

inline take_permits(e) {
	free = free - price(e);
	held[e] = held[e] + price(e);
#if PERMITS > 1 && !defined(LONG)
	assert(held[e] < PERMITS);
#endif
	receive(e, price(e))
}

inline take_reserve(e) {
	reserved[e] = true;
	receive(e, 1)
}

/* Whichever message is released, the reserve is the last that comes back, after what was lent. */
inline release(e, holds) {
	do
	:: holds && held[e] -> holds--; held[e]--; free++
	:: holds && !held[e] && lent[e] -> holds--; lent[e]--
	:: holds && !held[e] && !lent[e] -> holds--; assert(reserved[e]); reserved[e] = false
	:: else -> break
	od
}

/* The application waits for its next message: handlers always do, the client while it reads. */
#ifdef UNREAD
#define wanted(e) (e != NEIGHBOUR && e != caller(0))
#else
#define wanted(e) (e != NEIGHBOUR)
#endif

proctype End(byte e) {
	byte m;
end:
	do
	:: atomic { !suspended[e] && nempty(buffer[e]) ->
		buffer[e] ? <m>;
		if
		:: awaited(m) -> receive(e, 0)
		:: else ->
			if
			:: has_reserve(e) -> take_reserve(e)
			:: else ->
				if
				:: !len(queue) && free >= price(e) && !over_share(e) -> take_permits(e)
				:: else ->
					suspended[e] = true;
					m = 0;
					if
					:: over_share(e)
					:: else -> queue ! e
					fi
				fi
			fi
		fi }
	:: atomic { suspended[e] && reserved[e] && lent[e] < LENT && wanted(e) ->
		lent[e]++;
		reserved[e] = false }
#ifndef RESERVE_BEHIND_QUEUE
	:: atomic { suspended[e] && has_reserve(e) ->
		if
		:: queue ?? [eval(e)] -> queue ?? eval(e)
		:: !(queue ?? [eval(e)])
		fi;
		suspended[e] = false;
		take_reserve(e) }
#endif
	:: atomic { suspended[e] && queue ? [eval(e)] && free >= price(e) ->
		queue ? eval(e);
		if
		:: over_share(e)
		:: else -> suspended[e] = false; take_permits(e)
		fi }
	:: atomic { suspended[e] && !(queue ?? [eval(e)]) && !over_share(e) -> queue ! e }
	od
}

#ifdef LOOP_VARIABLE
#define keep(l, what) \
	if \
	:: l == LEVELS - 1 -> release(callee(l), variable); variable = what \
	:: else -> kept[l] = what \
	fi
#else
#define keep(l, what) kept[l] = what
#endif
#define let_go(l)     release(callee(l), kept[l])

proctype Call(byte c) {
	byte kept[LEVELS];
	byte level, got;
	bool mine;
	do
	::
		do
		:: level < LEVELS ->
			atomic { nfull(buffer[callee(level)]) -> buffer[callee(level)] ! c };
			atomic { arrived[c] ->
				arrived[c] = false;
				keep(level, worth[c]);
				worth[c] = 0;
				level++ }
		:: else -> break
		od;
		do
		:: level ->
#ifndef CYCLE
			if
			:: level == 1 ->
				atomic { nfull(buffer[caller(0)]) -> buffer[caller(0)] ! signal(c) }
			:: else
			fi;
#endif
			atomic { nfull(buffer[caller(level - 1)]) ->
				answers[c] = true;
				level--;
				buffer[caller(level)] ! c;
				let_go(level);
				if
				:: level < LEVELS - 1 -> release(caller(level + 1), got)
				:: else
				fi };
			atomic { arrived[c] ->
				arrived[c] = false;
				answers[c] = false;
				got = worth[c];
				worth[c] = 0 }
		:: else -> break
		od;
		atomic {
			answered++;
			if
			:: answered == CALLS -> answered = 0; round = !round
			:: else
			fi };
		atomic { round != mine ->
			mine = round;
			release(caller(0), got) }
	od
}

/* Lets go of signals, in its own time. */
proctype Reader() {
	byte one;
end:
	do
	:: atomic { loose[caller(0)] -> loose[caller(0)]--; one = 1; release(caller(0), one) }
	od
}

/* Sends as fast as it can. */
proctype Peer() {
end:
	do
	:: buffer[NEIGHBOUR] ! NEIGHBOURLY
	od
}

/* Lets go of what it receives, bit by bit, until it keeps the rest for ever. */
proctype Neighbour() {
	byte one;
end:
	do
	:: atomic { loose[NEIGHBOUR] -> loose[NEIGHBOUR]--; one = 1; release(NEIGHBOUR, one) }
	:: break
	od
}

init {
	byte i;
	atomic {
		for (i : 0 .. ENDS - 1) {
			run End(i)
		}
		for (i : 0 .. CALLS - 1) {
			run Call(i)
		}
#ifndef UNREAD
		run Reader();
#endif
#ifndef ALONE
		run Peer();
		run Neighbour();
#endif
		i = 0
	}
}

#define robbed(e) (suspended[e] && !held[e] && !reserved[e])

ltl progress { []<>round && []<>!round && []<>!robbed(0) && []<>!robbed(1) && []<>!robbed(NEIGHBOUR) }
