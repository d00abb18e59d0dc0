package report

import "github.com/galley-engine/galley/cmd/galley/internal/client"

// Stuck writes a list of executions that are stuck.
func (r *Report) Stuck(stuck []client.Stuck) {
	if len(stuck) == 0 {
		r.Line("no execution is stuck")
		return
	}
	rows := make([][]string, len(stuck))
	for i, s := range stuck {
		rows[i] = []string{s.CustomerID, s.ExecutionID, s.Kind, s.LastEvent, moment(&s.Since)}
	}
	table(r.w, []column{
		{title: "customer"}, {title: "execution"}, {title: "stuck"}, {title: "last event", style: quiet}, {title: "since (UTC)", style: quiet},
	}, rows)
}
