// Package subject names the streams and subjects of galley. They are a public contract: any NATS client may publish and
// subscribe to them.
//
//	galley.run.request.<customer>                                   a request to run a recipe (stream RUNS)
//	galley.run.rejected.<customer>                                  a request that was refused, and why (stream ACTIVITY)
//	galley.execution.<shard>.<customer>.<execution>.<event>         a milestone of one execution: accepted, funded, completed
//	galley.execution.<shard>.<customer>.<execution>.<event>.<n>     what happens in between: started, step (stream EXECUTIONS)
//	galley.activity.<customer>.<resource>.<verb>                    what people and services did (stream ACTIVITY)
//	galley.dead.<stream>                                            a message that cannot be processed (stream DEAD_LETTERS)
//	galley.query.<service>.<name>                                   request and reply between services, in no stream
package subject

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// Names of the streams and of the key-value bucket that holds the immutable recipe versions.
const (
	StreamExecutions  = "EXECUTIONS"
	StreamRuns        = "RUNS"
	StreamActivity    = "ACTIVITY"
	StreamDeadLetters = "DEAD_LETTERS"
	BucketRecipes     = "recipes"
)

// Wildcards that the streams capture.
const (
	AllExecutions  = "galley.execution.>"
	AllRuns        = "galley.run.request.>"
	AllRejected    = "galley.run.rejected.>"
	AllActivity    = "galley.activity.>"
	AllDeadLetters = "galley.dead.>"
)

// Shards is the number of virtual shards of the journal. It never changes: a large installation places the shards on several
// streams, no subject moves.
const Shards = 64

const maxIDLength = 64

// ErrInvalidID says that an identifier cannot be a subject token.
var ErrInvalidID = errors.New("must match [A-Za-z0-9][A-Za-z0-9_-]{0,63}")

// ValidID tells whether id may name a customer, agent, recipe or step: [A-Za-z0-9][A-Za-z0-9_-]{0,63}. Such an id is always
// one subject token.
func ValidID(id string) bool {
	if id == "" || len(id) > maxIDLength || !alphanumeric(id[0]) {
		return false
	}
	for i := 1; i < len(id); i++ {
		if c := id[i]; !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// Execution names one execution of one customer. Both parts must be valid ids.
type Execution struct {
	Customer string
	ID       string
}

// Event is the subject of one event of the execution's journal. number tells events of the same kind apart; it is empty for a milestone,
// of which there is one.
func (e Execution) Event(kind, number string) string {
	if number == "" {
		return e.prefix() + kind
	}
	return e.prefix() + kind + "." + number
}

// All is the wildcard over the execution's journal. It is the one and only guard string of its appends: NATS tracks guards by
// their literal text, so a second spelling would not be safe.
func (e Execution) All() string {
	return e.prefix() + ">"
}

func (e Execution) prefix() string {
	return "galley.execution." + Shard(e.Customer) + "." + e.Customer + "." + e.ID + "."
}

// ParseExecution takes the subject of a journal event apart.
func ParseExecution(subject string) (execution Execution, kind, number string, err error) {
	rest, found := strings.CutPrefix(subject, "galley.execution.")
	parts := strings.Split(rest, ".")
	if !found || len(parts) != 4 && len(parts) != 5 {
		return Execution{}, "", "", fmt.Errorf("subject %q: not an execution event", subject)
	}
	if len(parts) == 5 {
		number = parts[4]
	}
	return Execution{Customer: parts[1], ID: parts[2]}, parts[3], number, nil
}

// ExecutionMilestones is the filter for what every execution goes through: accepted, funded and completed, in one wildcard. A
// consumer with several filters has the server search its index of all subjects whenever it comes to the end of a block.
const ExecutionMilestones = "galley.execution.*.*.*.*"

// ExecutionMilestone is the filter for one milestone of all executions.
func ExecutionMilestone(kind string) string {
	return "galley.execution.*.*.*." + kind
}

// Shard is the virtual shard of a customer, "00" to "63": FNV-1a (32 bits) of the id, modulo 64.
func Shard(customer string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(customer))
	n := hash.Sum32() % Shards
	return string([]byte{byte('0' + n/10), byte('0' + n%10)})
}

// RunRequest is where a producer publishes a request to run a recipe of the customer.
func RunRequest(customer string) string {
	return "galley.run.request." + customer
}

// RunRejected is where a refused request is reported.
func RunRejected(customer string) string {
	return "galley.run.rejected." + customer
}

// Activity is the subject of what was done in the name of the customer. action is "<resource>.<verb>", such as
// "recipe.published".
func Activity(customer, action string) string {
	return "galley.activity." + customer + "." + action
}

// DeadLetter is where messages of a stream go that cannot be processed.
func DeadLetter(stream string) string {
	return "galley.dead." + stream
}

// Query is the request-reply subject of a service's query.
func Query(service, name string) string {
	return "galley.query." + service + "." + name
}

// RecipeKey is the key of a recipe version in the bucket recipes.
func RecipeKey(customer, agent, recipe string, version int) string {
	return fmt.Sprintf("%s.%s.%s.%d", customer, agent, recipe, version)
}
