package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/query"
)

// Plans writes a list of plans.
func (r *Report) Plans(plans []query.Plan) {
	if len(plans) == 0 {
		r.Line("there are no plans")
		return
	}
	rows := make([][]string, len(plans))
	for i, p := range plans {
		prices := make([]string, len(p.PriceList))
		for j, price := range p.PriceList {
			prices[j] = price.Item + " " + amount(price)
		}
		rows[i] = []string{
			p.PlanID, strconv.Itoa(p.Version), p.Name, p.MonthlyCredits.String(), leftOver(p.Rollover), strings.Join(prices, ", "), moment(p.RetiredAt),
		}
	}
	table(r.w, []column{
		{title: "plan"},
		{title: "version", right: true},
		{title: "name"},
		{title: "credits a month", right: true},
		{title: "left over"},
		{title: "prices"},
		{title: "retired (UTC)", style: quiet},
	}, rows)
}

// Plan writes a version of a plan.
func (r *Report) Plan(p query.Plan) {
	note := ""
	if p.RetiredAt != nil {
		note = "retired"
	}
	r.Heading(fmt.Sprintf("%s version %d", printable(p.PlanID), p.Version), note)
	facts := [][2]string{
		{"name", printable(p.Name)},
		{"credits", p.MonthlyCredits.String() + " a month"},
		{"left over", leftOver(p.Rollover)},
		{"priority", strconv.Itoa(p.Priority)},
	}
	add := func(name, value string) { facts = append(facts, [2]string{name, value}) }
	if len(p.Features) > 0 {
		add("features", printable(strings.Join(p.Features, ", ")))
	}
	if most := p.Limits.MaxConcurrency; most != nil {
		add("executions", fmt.Sprintf("%d at the same time", *most))
	}
	if overdraft := p.Limits.Overdraft; overdraft != nil {
		add("overdraft", overdraft.String()+" credits")
	}
	for _, price := range p.PriceList {
		add(printable(price.Item), printable(amount(price)))
	}
	add("published", p.PublishedAt.UTC().Format(time.DateTime))
	if p.RetiredAt != nil {
		add("retired", moment(p.RetiredAt))
	}
	r.Facts(facts...)
}

func amount(price query.Price) string { return price.Amount + " " + price.Currency }

func leftOver(rule query.Rollover) string {
	switch rule.Rule {
	case query.RolloverCapped:
		return "up to " + rule.Max.String() + " is carried over"
	case query.RolloverAll:
		return "is kept"
	case query.RolloverNone:
		return "expires"
	}
	return string(rule.Rule)
}
