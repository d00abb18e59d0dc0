package report

import (
	"strconv"
	"time"

	"github.com/galley-engine/galley/schemas/event"
)

// Waits writes what an execution waits for, if anything.
func (r *Report) Waits(waits []event.Wait) {
	if len(waits) == 0 {
		return
	}
	r.Heading("Waits", "")
	rows := make([][]string, len(waits))
	for i := range waits {
		wait := &waits[i]
		step := wait.Step
		if wait.Item != nil {
			step += "." + strconv.Itoa(*wait.Item)
		}
		kind, name := awaited(wait)
		rows[i] = []string{step, kind, name, wait.Until.UTC().Format(time.DateTime)}
	}
	table(r.w, []column{{title: "step"}, {title: "waits for"}, {title: "which"}, {title: "at the latest until", style: quiet}}, rows)
}

func awaited(wait *event.Wait) (kind, name string) {
	switch {
	case wait.Event != "":
		return "event", wait.Event
	case wait.Approval != "":
		return "approval", printable(wait.Approval)
	case wait.Execution != "":
		return "execution", wait.Execution
	case wait.Credits > 0:
		return "credits", wait.Credits.String()
	case wait.Slot != "":
		return "slot", string(wait.Slot)
	case wait.Attempts > 0:
		return "attempt", strconv.Itoa(wait.Attempts + 1)
	}
	return "time", ""
}
