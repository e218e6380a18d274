/*
 * Messages are released in any thread while their channel is about to wait, waits, or is about to
 * go on: its permits, its reserve, the queue, and the place beside it (protocol/account.py,
 * messaging/flow_control/read_gate.py).
 *
 * Every line is one atomic step of Python, and threads run in any order between them. One channel
 * may be suspended. Others take a permit when nobody waits, and give it back or keep it for ever.
 * That a scheduled reconciliation wakes the loop is left to permits.pml, and what becomes of whole
 * programs to progress.pml.
 *
 * The channel takes its reserve first and gives it back last. When it has its share of the pool,
 * here one permit, it does not wait in the queue but is parked.
 *
 * Checked, under weak fairness: the channel does not wait for ever when its reserve is back or a
 * permit is free for it, and is not parked for ever when it holds less than its share. In every
 * state, what comes back was out.
 *
 * Each of these macros removes one rule: LOOK_FIRST, TWO_PLACES, NO_SECOND_LOOK.
 */

#define PERMITS  1
#define THREADS  2

byte free = PERMITS; /* Pool.free */
byte others;         /* messages of other channels that will be released */
byte permits;        /* Account.taken: messages of the channel that hold a permit, */
bool first;          /* and at its start the one that holds the reserve */
bool reserved;       /* Account.reserved: the reserve is in use */
bool waits;          /* the channel is in Pool.suspended, */
bool queued;         /* and in Pool.waiters, */
bool parked;         /* or in Pool.parked */
byte restored;       /* Pool.restored */
bool scheduled;      /* a ReadGate._reconcile is queued */

#define over_share (permits + first > reserved)

inline look() {
#ifdef TWO_PLACES /* so two looks, and the channel may go from one to the other in between */
	if
	:: queued -> somebody = true
	:: else -> somebody = parked
	fi
#else
	somebody = waits
#endif
}

proctype Thread() {
	bool somebody;
end:
	do
	:: atomic { others -> others-- };
		goto permit
	:: atomic { permits -> permits-- };
permit:
		free++;
		assert(free <= PERMITS);
		look();
		if
		:: somebody -> scheduled = true; somebody = false
		:: else
		fi
	:: atomic { first && !permits -> first = false };
		assert(reserved);
#ifdef LOOK_FIRST
		look();
		reserved = false;
#else
		reserved = false;
		look();
#endif
		if
		:: somebody -> restored++; scheduled = true; somebody = false
		:: else
		fi
	od
}

inline take_reserve() {
	reserved = true;
	assert(!first);
	first = true
}

inline starve() {
	waits = true;
	if
	:: over_share -> parked = true
	:: else -> queued = true
	fi;
#ifndef NO_SECOND_LOOK
	if
	:: reserved
	:: else -> restored++
	fi;
#endif
	scheduled = true
}

inline receive() {
	if
	:: !reserved -> take_reserve()
	:: else ->
		if
		:: atomic { free && !queued && !over_share -> free--; permits++ }
		:: else -> starve()
		fi
	fi
}

inline go_on() {
	queued = false;
	parked = false;
	waits = false
}

inline use_reserves() {
	due = restored;
	do
	:: due ->
		due--;
		restored--;
		if
		:: waits -> go_on(); receive() /* maybe to wait again: the reserve may be in use again */
		:: else
		fi
	:: else -> break
	od;
	if
	:: restored -> scheduled = true
	:: else
	fi
}

inline deal_out() {
	if
	:: parked && !over_share -> parked = false; queued = true
	:: else
	fi;
	if
	:: queued && free ->
		queued = false;
		if
		:: over_share -> parked = true
		:: else -> go_on(); atomic { free--; permits++ }
		fi
	:: else
	fi;
	if
	:: queued && free -> scheduled = true
	:: else
	fi
}

active proctype Loop() {
	byte due;
	for (due : 1 .. THREADS) {
		run Thread()
	}
	due = 0;
	do
	::
		if
		:: !waits -> receive()
		:: atomic { free && !queued -> free--; others++ }
		:: atomic { free && !queued -> free-- } /* and never back */
		:: skip
		fi;
		if
		:: scheduled ->
			scheduled = false;
			use_reserves();
			deal_out()
		:: else
		fi
	od
}

ltl served {
	[]<>!(waits && !reserved) && []<>!(queued && free) && []<>!(parked && !over_share)
}
