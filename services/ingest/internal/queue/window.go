package queue

import (
	"context"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
)

const (
	// target is how long an admitted request should stand behind others. It is far above what an execution takes on a machine that is
	// not loaded, so that there is always enough to do, and far below a second.
	target = 400 * time.Millisecond
	// minWindow and maxWindow bound how many executions may stand in the pipeline. The lower one keeps two executors busy with work
	// that waits for others, and is enough to find out what the pipeline can do.
	minWindow, maxWindow = 512, 4096
	// share is the part of the window that requests from the stream have in any case, when what came by HTTP fills it.
	share = 4
	// slow is the time in the pipeline from which on executions do not stand behind others but take long themselves. Then the window
	// says how many may be admitted within that time, and grows by growth each time as long as executors have room.
	slow   = 2 * time.Second
	growth = 1.25

	// pause is how often the pipeline is asked while it has no room; minRoom is not worth a batch of billing's.
	pause   = 50 * time.Millisecond
	minRoom = 32
	// fresh is how long an answer counts.
	fresh = time.Second
	// averaging is over how long the rate is averaged.
	averaging = 500 * time.Millisecond
	// grain is the time within which admissions are counted as one.
	grain = 10 * time.Millisecond
)

// Depth is how much stands in the pipeline.
type Depth struct {
	// Undelivered are executions that no executor has been given yet. Under are all that were accepted and are neither ended nor
	// parked, Undelivered included.
	Undelivered, Under int
	// Through counts the executions that left the pipeline.
	Through uint64
}

// Pipeline is what accepted executions go through: billing and executors.
type Pipeline interface {
	Depth(ctx context.Context) (Depth, error)
}

// window says how many requests may be admitted. It keeps the pipeline full, but so short that whoever comes next passes it within
// target: its length is what the pipeline was seen to do in that time.
type window struct {
	pipeline Pipeline
	clock    clock.Clock

	room    int
	asked   time.Time
	through uint64
	// rate is executions a second.
	rate     float64
	admitted []admission
}

type admission struct {
	at time.Time
	n  int
}

// open gives how many may be admitted now. It asks the pipeline only when what it said before is used up or old.
func (w *window) open(ctx context.Context) (int, error) {
	if now := w.clock(); w.room >= minRoom && now.Sub(w.asked) < fresh {
		return w.room, nil
	}
	depth, err := w.pipeline.Depth(ctx)
	if err != nil {
		return 0, err
	}
	w.measure(depth)
	w.room = w.size(depth)
	return w.room, nil
}

func (w *window) measure(depth Depth) {
	now := w.clock()
	passed := now.Sub(w.asked)
	if passed <= 0 {
		return
	}
	if depth.Through >= w.through && !w.asked.IsZero() {
		rate := float64(depth.Through-w.through) / passed.Seconds()
		w.rate += (rate - w.rate) * min(1, passed.Seconds()/averaging.Seconds())
	}
	w.asked, w.through = now, depth.Through
}

func (w *window) size(depth Depth) int {
	latency := slow
	if w.rate*slow.Seconds() > float64(depth.Under) {
		latency = time.Duration(float64(depth.Under) / w.rate * float64(time.Second))
	}
	own := w.since(latency)
	length := min(max(int(w.rate*target.Seconds()), minWindow), maxWindow)
	room := max(length-depth.Under, length/share-own)
	if latency == slow && depth.Undelivered == 0 {
		room = max(room, minWindow-own, int(growth*w.rate*slow.Seconds())-own)
	}
	return room
}

// admit counts n requests as admitted.
func (w *window) admit(n int) {
	now := w.clock()
	w.room -= n
	if last := len(w.admitted) - 1; last >= 0 && now.Sub(w.admitted[last].at) < grain {
		w.admitted[last].n += n
		return
	}
	w.admitted = append(w.admitted, admission{at: now, n: n})
}

// since counts what was admitted within the latest time, at most slow.
func (w *window) since(latest time.Duration) int {
	now, count, old := w.clock(), 0, 0
	for _, one := range w.admitted {
		switch age := now.Sub(one.at); {
		case age > slow:
			old++
		case age <= latest:
			count += one.n
		}
	}
	w.admitted = w.admitted[old:]
	return count
}
