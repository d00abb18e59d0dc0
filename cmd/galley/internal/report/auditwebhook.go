package report

import (
	"strconv"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

// Webhook writes where tree heads are delivered, and how that went.
func (r *Report) Webhook(hook client.Webhook) {
	facts := [][2]string{
		{"url", printable(hook.URL)},
		{"at most every", (time.Duration(hook.IntervalSeconds) * time.Second).String()},
	}
	if hook.DeliveredAt != nil {
		facts = append(facts, [2]string{"delivered", strconv.FormatInt(hook.DeliveredSize, 10) + " rows, " + hook.DeliveredAt.UTC().Format(time.DateTime)})
	} else {
		facts = append(facts, [2]string{"delivered", "nothing yet"})
	}
	if hook.Failures > 0 {
		facts = append(facts, [2]string{"failed since", strconv.Itoa(hook.Failures) + " times: " + printable(hook.LastError)},
			[2]string{"next attempt", hook.NextAttempt.UTC().Format(time.DateTime)})
	}
	if hook.Secret != "" {
		facts = append(facts, [2]string{"secret", hook.Secret})
	}
	r.Facts(facts...)
	if hook.Withheld != "" {
		r.Line("%s: %s", red().Render("NOTHING IS DELIVERED"), printable(hook.Withheld))
	}
	if hook.Secret != "" {
		r.Line("the secret is shown this once: the receiver checks the messages with it")
	}
}
