package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/query"
)

// Quote writes what an execution may cost.
func (r *Report) Quote(q client.Quote) {
	r.Heading(q.AgentID+"/"+q.RecipeID, "version "+strconv.Itoa(q.Version))
	rows := make([][]string, len(q.Steps))
	for i := range q.Steps {
		step := &q.Steps[i]
		rows[i] = []string{step.ID, step.Kind, price(&step.Price), step.Max.String()}
	}
	table(r.w, []column{{title: "step"}, {title: "kind", style: quiet}, {title: "price"}, {title: "at most", right: true}}, rows)
	covered := green().Render("covered")
	if !q.Covered {
		covered = red().Render("not covered")
	}
	facts := [][2]string{{"at most", q.Quoted.String() + " credits"}, {"available", q.Available.String() + " credits, " + covered}}
	if q.Waits && (q.Waiting > 0 || !q.Covered) {
		facts = append(facts, [2]string{"waits", "for credits, behind " + strconv.Itoa(q.Waiting) + " that wait already"})
	}
	r.Facts(facts...)
}

// price says what a step costs.
func price(p *client.Price) string {
	text := p.Fixed.String()
	if len(p.Rates) > 0 {
		parts := make([]string, len(p.Rates))
		for i, rate := range p.Rates {
			counted := strings.ReplaceAll(rate.Meter, "_", " ")
			if rate.Per == 1 {
				counted = strings.TrimSuffix(counted, "s")
			} else {
				counted = strconv.FormatInt(rate.Per, 10) + " " + counted
			}
			parts[i] = rate.Credits.String() + " per " + counted
		}
		text = strings.Join(parts, ", ")
	}
	if p.MaxItems > 0 {
		text += " an item"
	}
	return text
}

// Receipt writes what an execution costs.
func (r *Report) Receipt(x client.Receipt) {
	r.Heading(x.AgentID+"/"+x.RecipeID, "version "+strconv.Itoa(x.Version)+", execution "+x.ExecutionID)
	rows := make([][]string, len(x.Steps))
	for i := range x.Steps {
		step := &x.Steps[i]
		items, cost := "", ""
		if step.Items != nil {
			items = fmt.Sprintf("%d of %d", step.Items.Succeeded, step.Items.Total)
		}
		if step.Price != nil {
			cost = price(step.Price)
		}
		rows[i] = []string{step.ID, step.Kind, string(step.Status), items, used(step.Usage), cost, step.Credits.String()}
	}
	if len(rows) > 0 {
		table(r.w, []column{
			{title: "step"},
			{title: "kind", style: quiet},
			{title: "status", style: byStatus},
			{title: "items", right: true},
			{title: "used"},
			{title: "price"},
			{title: "credits", right: true},
		}, rows)
	}
	facts := [][2]string{
		{"status", byStatus(string(x.Status)).Render(string(x.Status))},
		{"quoted", x.Quoted.String()},
		{"debited", x.Debited.String()},
		{"refunded", x.Refunded.String()},
		{"consumed", x.Consumed.String()},
	}
	if x.Capped > 0 {
		facts = append(facts, [2]string{"not charged", x.Capped.String() + " above the debit"})
	}
	r.Facts(facts...)
	if !x.Settled {
		r.Line("It is not settled yet")
	}
	if len(x.Transactions) > 0 {
		r.Heading("Ledger", "")
		rows := slices.Clone(x.Transactions)
		slices.Reverse(rows)
		r.Ledger(rows)
	}
}

// Usage writes what was used.
func (r *Report) Usage(period client.Period, u client.Usage) {
	r.Heading("Usage", days(period.From, period.To, period.TimeZone))
	rows := make([][]string, 0, len(u.Items)+1)
	for i := range u.Items {
		item := &u.Items[i]
		recipe := item.RecipeID
		if item.AgentID != "" {
			recipe = item.AgentID + "/" + recipe
		}
		rows = append(rows, append([]string{"", item.CustomerID, item.Day, recipe, item.Kind}, figures(&item.Figures)...))
	}
	rows = append(rows, append([]string{"total", "", "", "", ""}, figures(&u.Total)...))
	table(r.w, []column{
		{title: "", style: quiet},
		{title: "customer"},
		{title: "day"},
		{title: "recipe"},
		{title: "kind"},
		{title: "executions", right: true},
		{title: "steps", right: true},
		{title: "credits", right: true},
		{title: "tokens in", right: true},
		{title: "tokens out", right: true},
		{title: "units", right: true},
	}, rows)
	if u.UnderWay > 0 {
		fmt.Fprintln(r.w, indent+faint().Render(fmt.Sprintf("%d executions are under way, which are not in it", u.UnderWay)))
	}
}

func figures(f *client.Figures) []string {
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{count(f.Executions), count(f.Steps), f.Credits.String(), count(f.InputTokens), count(f.OutputTokens), count(f.Units)}
}

func days(from, to, zone string) string {
	if zone == "" {
		zone = "UTC"
	}
	return from + " to " + to + ", " + zone
}

// Statement writes what happened to credits in a period.
func (r *Report) Statement(s client.Statement) {
	r.Heading(printable(s.CustomerID), days(s.From, s.To, s.TimeZone))
	rows := [][]string{{"balance before", "", s.Opening.String()}}
	for _, movement := range s.Movements {
		rows = append(rows, []string{movementName(&movement), strconv.FormatInt(movement.Rows, 10), movement.Credits.String()})
	}
	rows = append(rows, []string{"balance after", "", s.Closing.String()})
	table(r.w, []column{
		{title: "", style: func(string) lipgloss.Style { return lipgloss.NewStyle() }},
		{title: "rows", right: true, style: quiet},
		{title: "credits", right: true},
	}, rows)
	r.Facts([2]string{"charged", s.Charged.String() + " credits"})
}

func movementName(m *query.Movement) string {
	if m.GrantKind == "" {
		return printable(m.Kind)
	}
	return printable(m.Kind) + " (" + printable(string(m.GrantKind)) + ")"
}
