package report

import "strconv"

// Limits writes how many executions of a customer may be under way at the same time, and why; nil is no limit.
func (r *Report) Limits(customer, source string, effective, plan *int) {
	r.Heading(printable(customer), "")
	from := map[string]string{"customer": "set for the customer", "plan": "what the plan allows", "none": "nobody has set a limit"}
	facts := [][2]string{{"executions", most(effective) + " at the same time"}, {"because", from[source]}}
	if source == "customer" {
		facts = append(facts, [2]string{"plan", most(plan)})
	}
	r.Facts(facts...)
}

func most(limit *int) string {
	if limit == nil {
		return "any number"
	}
	return strconv.Itoa(*limit)
}
