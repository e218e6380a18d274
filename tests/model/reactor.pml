/*
 * Suspend, resume, close and reuse: the kernel, the selector's table, and a program on top.
 *
 * The kernel gives out the lowest free number, and keys a registration on the number and the open
 * file behind it. It forgets a registration when the last copy of the file closes, wherever that
 * copy is. Readiness is level-triggered, and a hang-up is reported whatever was asked.
 *
 * The selector tells of a descriptor's coming and going at once, and of a change of mind when it
 * waits; a descriptor that stays open may rest until then with nothing wanted. What was harvested
 * is delivered one after the other, and everything may change in between.
 *
 * The program reads with permits: without one a channel starves, is suspended and waits its turn.
 * Callbacks open and close channels at will. To keep it small only the first channel may have more
 * than one read takes, be shared with a child, or be closed before it is unregistered.
 *
 * Checked: no event reaches a later owner of its number, the loop does not wake over and over for
 * nothing (two assertions), and every channel is served (an ltl formula, under weak fairness).
 *
 * Each of these macros removes one rule, or changes the kernel: DEFERRED_DEL, OLD_EVENTS,
 * EMPTY_MASK, STALE_BELIEVED, STALE_KEPT, QUEUE_JUMPED, EDGE, ONE_SHOT, NEVER_REARMED.
 */

#define NUMBERS  2 /* descriptors */
#define CHANNELS 3 /* opened one after the other, each an open file of its own */
#define PERMITS  1

/* Interest, and readiness. */
#define READ     1
#define WRITE    2
#define BOTH     3
#define KNOWN    4 /* registered, whatever for */
#define DISABLED 8 /* registered, and silent until modified (one-shot) */

/* What a file has for its reader: so many reads' worth of data, or a hang-up after the last. */
#define NOTHING 0
#define HANG_UP 3

hidden byte i, j, c, fd, said; /* scratch */

/* --- the kernel ------------------------------------------------------------------------------ */

typedef PerFile {
	byte watch[CHANNELS + 1]; /* the registration of each file under this number; 0: none */
#ifdef EDGE
	bool edge[CHANNELS + 1]   /* something has happened since it was last reported */
#endif
};

PerFile kernel[NUMBERS];
byte file[NUMBERS];           /* what each number names: a channel's open file; 0: free */
byte has[CHANNELS + 1];
bool copied;                  /* a child holds a copy of the first channel's file */

#ifdef EDGE
#define mark(fd_, f)     kernel[fd_].edge[f] = true
#define may_tell(fd_, f) (kernel[fd_].watch[f] & KNOWN && kernel[fd_].edge[f])
#else
#define mark(fd_, f)     skip
#define may_tell(fd_, f) (kernel[fd_].watch[f] & KNOWN)
#endif

/* The program's writes never block. */
#define readiness(f)     (has[f] -> BOTH : WRITE)
#define tells(fd_, f)    (may_tell(fd_, f) -> \
                          (has[f] == HANG_UP -> BOTH : kernel[fd_].watch[f] & readiness(f)) : 0)
#define tells_of(fd_)    (tells(fd_, 1) || tells(fd_, 2) || tells(fd_, 3))

inline forget_file(f) {
	kernel[0].watch[f] = 0;
	kernel[1].watch[f] = 0;
	has[f] = NOTHING
}

inline close_number() {
	file[fd] = 0;
	if
	:: c == 1 && copied
	:: else -> forget_file(c)
	fi
}

/* --- the selector ---------------------------------------------------------------------------- */

byte wanted[NUMBERS];    /* by the program, now; 0: it registered nothing */
byte armed[NUMBERS];     /* what the kernel was last told; 0: to forget */
bool doubt[NUMBERS];     /* a registration may have outlived its descriptor under this number */
bool stale_seen;            /* one has shown itself */
byte harvested[NUMBERS]; /* what is yet to be delivered in this turn, */
byte about[NUMBERS];     /* and the file that it is about, which the kernel does not say */
byte useless;            /* turns in a row with events for nobody */

/* The one place where the kernel is told anything. */
inline update(fd_) {
	if
	:: armed[fd_] == wanted[fd_]
	:: else ->
		if
		:: armed[fd_] && !kernel[fd_].watch[file[fd_]] -> doubt[fd_] = true /* EBADF, ENOENT */
		:: else
		fi;
		armed[fd_] = wanted[fd_];
		if
		:: wanted[fd_] -> kernel[fd_].watch[file[fd_]] = KNOWN | wanted[fd_]; mark(fd_, file[fd_])
		:: else -> kernel[fd_].watch[file[fd_]] = 0
		fi
	fi
}

inline want(interest) {         /* `register` where nothing was wanted, else `modify` */
	wanted[fd] = wanted[fd] | interest;
#ifndef DEFERRED_ADD
	if
	:: !armed[fd] -> update(fd) /* at once */
	:: else                     /* in the next wait, which may find that nothing has changed */
	fi
#endif
}

inline want_no_more(interest) { /* `rest` where nothing is left, else `modify` */
	wanted[fd] = wanted[fd] & ~interest
}

inline unregister() {
	wanted[fd] = 0;
#ifndef OLD_EVENTS
	harvested[fd] = 0; about[fd] = 0;
#endif
#ifndef DEFERRED_DEL
	update(fd) /* at once */
#endif
}

inline reconcile() {
	for (i : 0 .. NUMBERS - 1) {
		if
#ifdef EMPTY_MASK
		:: file[i] && armed[i] && !wanted[i] -> armed[i] = KNOWN; kernel[i].watch[file[i]] = KNOWN
#endif
		:: else -> update(i)
		fi
	}
}

/* An event that nobody asked for. The first may have crossed a change; the second is of a stale registration. */
inline meet(fd_) {
	if
	:: armed[fd_] == KNOWN /* the empty mask's own */
	:: else -> stale_seen = stale_seen || doubt[fd_]; doubt[fd_] = true
	fi
}

inline harvest() {
	useless = (tells_of(0) || tells_of(1) -> useless + 1 : 0);
	for (i : 0 .. NUMBERS - 1) {
		for (j : 1 .. CHANNELS) {
			said = tells(i, j);
			if
			:: !said
			:: said && said & wanted[i] && !harvested[i] ->
				harvested[i] = said & wanted[i];
				about[i] = j
			:: else -> meet(i)
			fi;
#ifdef EDGE
			kernel[i].edge[j] = kernel[i].edge[j] && !said;
#endif
#ifdef ONE_SHOT
			if
			:: said && j == file[i] ->
				kernel[i].watch[j] = DISABLED;
#ifndef NEVER_REARMED
				armed[i] = DISABLED /* so that the next reconciliation arms it */
#endif
			:: else
			fi
#endif
		}
#ifndef STALE_BELIEVED
		if
		:: harvested[i] && doubt[i] -> /* ask the descriptor itself */
			said = harvested[i] & readiness(file[i]);
			stale_seen = stale_seen || said != harvested[i];
			harvested[i] = said;
			about[i] = (said -> file[i] : 0)
		:: else
		fi;
#endif
		useless = (harvested[i] -> 0 : useless)
	}
	assert(useless <= 2);
#ifndef STALE_KEPT
	if
	:: stale_seen -> /* take a new poller, which the next reconciliation tells all that is wanted */
		stale_seen = false;
		for (i : 0 .. NUMBERS - 1) {
			armed[i] = 0;
			doubt[i] = false;
			for (j : 1 .. CHANNELS) {
				kernel[i].watch[j] = 0
			}
		}
	:: else
	fi
#endif
	said = 0
}

/* --- the program ----------------------------------------------------------------------------- */

byte opened;
byte number[CHANNELS + 1]; /* each channel's descriptor, plus 1; 0: not open */
bool starved[CHANNELS + 1];
chan waiters = [CHANNELS] of { byte };
byte waiting;              /* how many are in that queue */
byte free = PERMITS, held;
bool soon = true;          /* a callback is due without any event */
byte called;               /* the channel that was called back last in this turn */

inline open_channel() {
	fd = (file[0] -> 1 : 0);
	opened++;
	c = opened;
	file[fd] = c;
	number[c] = fd + 1;
	want(READ)
}

inline close_channel(politely) {
	fd = number[c] - 1;
	if
	:: politely -> unregister(); close_number()
	:: else -> close_number(); unregister()
	fi;
	number[c] = 0;
	if
	:: starved[c] -> waiters??eval(c); waiting--; starved[c] = false
	:: else
	fi
}

inline read_or_starve() {
	has[c]--;
	if
#ifdef QUEUE_JUMPED
	:: free -> free--; held++
#else
	:: free && !waiting -> free--; held++ /* nobody passes those who wait */
#endif
	:: else -> starved[c] = true; waiters!c; waiting++; want_no_more(READ)
	fi
}

inline deliver(fd_) {
	fd = fd_;
	c = file[fd];
	said = harvested[fd] & wanted[fd];
	harvested[fd] = 0;
	if
	:: said -> assert(about[fd] == c); called = c
	:: else
	fi;
	about[fd] = 0;
	if
	:: said & WRITE -> want_no_more(WRITE)
	:: else
	fi;
	if
	:: said & READ && has[c] == HANG_UP -> close_channel(true)
	:: said & READ && has[c] != HANG_UP && has[c] -> read_or_starve()
	:: else
	fi;
	said = 0
}

/* The permits that came back, to those who have waited longest; they read again. */
inline resume_channels() {
	do
	:: free && waiting ->
		waiters?c;
		waiting--;
		starved[c] = false;
		free--;
		held++;
		fd = number[c] - 1;
		want(READ)
	:: else -> break
	od;
	called = 0
}

inline act() { /* what a callback does besides its own work, to any channel */
	do
	:: opened < CHANNELS && !(file[0] && file[1]) ->
		d_step { open_channel(); skip }
		if
		:: opened == 1 -> copied = true /* it forks */
		:: true
		fi
	:: number[1] -> d_step { c = 1; close_channel(false); skip }
	:: number[1] -> d_step { c = 1; close_channel(true); skip }
	:: number[2] -> d_step { c = 2; close_channel(true); skip }
	:: number[3] -> d_step { c = 3; close_channel(true); skip }
	:: break
	od;
	if
	:: file[0] && !(wanted[0] & WRITE) -> d_step { fd = 0; want(WRITE); skip }
	:: file[0] && wanted[0] & WRITE -> d_step { fd = 0; want_no_more(WRITE); skip }
	:: true
	fi;
	if
	:: soon = true
	:: true
	fi
}

active proctype Loop() {
	bool due; /* a callback is due in this turn */
end_asleep:
	do
	:: atomic { /* until the kernel has something to say, a permit is back, or work is left */
			tells_of(0) || tells_of(1) || (free && waiting) || soon;
			d_step { harvest(); due = soon; soon = false }
		};
		do
		:: atomic { harvested[0] -> d_step { deliver(0); skip }; act() }
		:: atomic { harvested[1] -> d_step { deliver(1); skip }; act() }
		:: atomic { due -> due = false; called = 0; act() }
		:: atomic { !harvested[0] && !harvested[1] && !due ->
				d_step { resume_channels(); reconcile(); skip }; break }
		od
	od
}

/* Whoever holds a message releases it in the end. */
active proctype Application() {
end_idle:
	do
	:: atomic { held -> held--; free++ }
	od
}

/* Peers and the child do what they like until they like no more. */
#define lives(f)    (number[f] || (f == 1 && copied))
#define may_send(f) (lives(f) && has[f] < buffer(f))
#define buffer(f)   (f == 1 -> 2 : 1)
#define may_end(f)  (lives(f) && has[f] == NOTHING)

inline change(f, what) {
	has[f] = what;
	mark(0, f);
	mark(1, f)
}

active proctype World() {
	do
	:: d_step { may_send(1) -> change(1, has[1] + 1) }
	:: d_step { may_send(2) -> change(2, has[2] + 1) }
	:: d_step { may_send(3) -> change(3, has[3] + 1) }
	:: d_step { may_end(1) -> change(1, HANG_UP) }
	:: d_step { may_end(2) -> change(2, HANG_UP) }
	:: d_step { may_end(3) -> change(3, HANG_UP) }
	:: d_step {
			copied -> copied = false;
			if
			:: number[1]
			:: else -> forget_file(1)
			fi
		}
	:: break
	od
}

/* Nobody waits for ever for what came, nor for a permit, on an open channel. */
#define waits(c_) (number[c_] && (has[c_] || starved[c_]) && called != c_)

ltl served { []<>!waits(1) && []<>!waits(2) && []<>!waits(3) }
