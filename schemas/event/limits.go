package event

import "strconv"

// TypeLimits is the CloudEvents type of Limits.
const TypeLimits = "dev.galley.limits.v1"

// Limits are what the plan of a customer allows from now on, whole. The stream keeps the last one of each customer for ever.
type Limits struct {
	CustomerID string `json:"customer_id"`
	// Revision orders the limits of a customer: those of a higher one hold, in whatever order they come.
	Revision int64 `json:"revision"`
	// MaxConcurrency is how many executions may be under way at the same time; nil where the plan does not say, or there is none.
	MaxConcurrency *int `json:"max_concurrency"`
}

// ID is the ce-id, the same one however often the limits are told.
func (l *Limits) ID() string {
	return l.CustomerID + "/limits/" + strconv.FormatInt(l.Revision, 10)
}
