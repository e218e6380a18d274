/*
 * A permit comes back in any thread: the pool, the gate that resumes channels, and the loop that
 * may be asleep (protocol/account.py, messaging/flow_control/read_gate.py, reactor/wake_up.py).
 *
 * Every line is one atomic step of Python, and threads run in any order between them. Whose turn
 * it is to wait is left to reactor.pml: here it matters that somebody does.
 *
 * Checked, under weak fairness: no permit lies free for ever while a channel waits, and no call
 * lies in the queue for ever while the loop sleeps.
 *
 * Each of these macros removes one rule: LOOK_FIRST, NO_SECOND_LOOK, LOWER_LATE, CLEAR_FIRST.
 */

#define PERMITS  1
#define CHANNELS 1
#define THREADS  2

byte free = PERMITS; /* Pool.free */
byte held;           /* messages that the application has yet to release */
byte waiting;        /* Pool.waiters */
bool scheduled;      /* ReadGate._scheduled */
byte calls;          /* the loop's queue: each a ReadGate._reconcile */
bool pending;        /* WakingLoop._wake_up_pending */
bool pipe;           /* a byte is in the self-pipe */
bool arrived;        /* a socket that is read has data */

inline schedule(from_thread) {
	if
	:: scheduled
	:: else ->
		scheduled = true;
		calls++;
		if
		:: from_thread && !pending -> pending = true; pipe = true
		:: else /* the loop is awake, or about to be woken */
		fi
	fi
}

proctype Thread() {
	bool somebody;
end_idle:
	do
	:: atomic { held -> held-- };
#ifdef LOOK_FIRST
		somebody = waiting > 0;
		free++;
#else
		free++;
		somebody = waiting > 0;
#endif
		if
		:: somebody -> schedule(true); somebody = false
		:: else
		fi
	od
}

inline receive() {
	if
	:: atomic { free && !waiting -> free--; held++ }
	:: else ->
		waiting++;
#ifndef NO_SECOND_LOOK
		schedule(false)
#endif
	fi
}

inline resume() {
#ifndef LOWER_LATE
	scheduled = false;
#endif
	do
	:: atomic { waiting && free -> waiting--; free--; held++ }
	:: else -> break
	od;
#ifdef LOWER_LATE
	scheduled = false
#endif
}

inline read_from_self() {
#ifdef CLEAR_FIRST
	pending = false;
	pipe = false
#else
	pipe = false;
	pending = false
#endif
}

active proctype Loop() {
	byte due;
	bool woken, readable;
	byte thread;
	for (thread : 1 .. THREADS) {
		run Thread()
	}
	thread = 0;
	do
	:: if
		:: calls /* no sleep */
		:: else ->
end_asleep:
			pipe || (arrived && waiting < CHANNELS)
		fi;
		d_step { woken = pipe; readable = arrived && waiting < CHANNELS; due = calls };
		do /* in any order, which is more than happens */
		:: due -> due--; calls--; resume()
		:: woken -> woken = false; read_from_self()
		:: readable -> readable = false; arrived = false; receive()
		:: !due && !woken && !readable -> break
		od
	od
}

/* Sends what it likes, until it likes no more. */
active proctype Peer() {
	do
	:: !arrived -> arrived = true
	:: break
	od
}

ltl served { []<>!(free && waiting) && []<>!(calls && Loop@end_asleep) }
