// Package subject names the streams and subjects of galley. They are a public contract: any NATS client may publish and
// subscribe to them.
//
//	galley.run.request.<customer>                                   a request to run a recipe (stream RUNS)
//	galley.run.rejected.<customer>                                  a request that was refused, and why (stream ACTIVITY)
//	galley.execution.<shard>.<customer>.<execution>.<event>         a milestone of one execution: accepted, funded, completed
//	galley.execution.<shard>.<customer>.<execution>.<event>.<n>     what happens in between: started, step (stream EXECUTIONS)
//	galley.activity.<customer>.<resource>.<verb>                    what people and services did (stream ACTIVITY)
//	galley.billing.<customer>.<event>                               what a customer is told of the balance (stream BILLING)
//	galley.limits.<customer>                                        what a customer's plan allows, the last of each kept (stream LIMITS)
//	galley.audit.tree_head                                          how the audit log stands, signed (stream TREE_HEADS)
//	galley.signal.<customer>.<execution>.<name>                     an event that an execution waits for (stream SIGNALS)
//	galley.delay.execution.<customer>.<execution>                   a wake-up call, to be made later (stream DELAYS)
//	galley.due.execution.<customer>.<execution>                     the call, now (stream DELAYS)
//	galley.delay.schedule.<customer>.<schedule>                     the next start of a schedule, later (stream DELAYS)
//	galley.due.schedule.<customer>.<schedule>                       the start, now (stream DELAYS)
//	galley.delay.billing.<customer>                                 the end of a subscription's period, later (stream DELAYS)
//	galley.due.billing.<customer>                                   the end, now (stream DELAYS)
//	galley.notify.<customer>.<execution>                            what a running execution should look at, in no stream
//	galley.limited.<customer>                                       that a limit has changed for which executions may wait, in no stream
//	galley.dead.<stream>                                            a message that cannot be processed (stream DEAD_LETTERS)
//	galley.redrive.<stream>.<consumer>                              a dead letter that is to be processed again (stream REDRIVES)
//	galley.worker.<customer>.<name>                                 a step for a worker outside of galley, in no stream
//	galley.call.<customer>.<execution>.<step>[.<index>]             what the worker of a step is asked or told, in no stream
//	galley.reply.<customer>.<process>.<call>                        what a worker answers, in no stream
//	galley.progress.<customer>.<execution>.<step>[.<index>]         what a step tells while it runs, in no stream
//	galley.query.<service>.<name>                                   request and reply between services, in no stream
package subject

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// Names of the streams.
const (
	StreamExecutions  = "EXECUTIONS"
	StreamRuns        = "RUNS"
	StreamSignals     = "SIGNALS"
	StreamDelays      = "DELAYS"
	StreamActivity    = "ACTIVITY"
	StreamBilling     = "BILLING"
	StreamLimits      = "LIMITS"
	StreamTreeHeads   = "TREE_HEADS"
	StreamDeadLetters = "DEAD_LETTERS"
	StreamRedrives    = "REDRIVES"
)

// Names of the key-value buckets.
const (
	// BucketRecipes holds the immutable recipe versions, see RecipeKey.
	BucketRecipes = "recipes"
	// BucketSignals holds events for executions that have not come to wait for them yet, and decisions, see SignalKey.
	BucketSignals = "signals"
	// BucketSchedules holds the schedules, see ScheduleKey.
	BucketSchedules = "schedules"
	// BucketSecrets holds customers' secrets, encrypted, see SecretKey.
	BucketSecrets = "secrets"
	// BucketStore holds what customers' recipes keep beyond an execution, see StoreKey.
	BucketStore = "store"
	// BucketFiles is the object store of customers' files.
	BucketFiles = "files"
	// BucketSlots holds which executions are under way where their number is limited; a key is a customer.
	BucketSlots = "slots"
)

// Wildcards that the streams capture.
const (
	AllExecutions    = "galley.execution.>"
	AllRuns          = "galley.run.request.>"
	AllRejected      = "galley.run.rejected.>"
	AllActivity      = "galley.activity.>"
	AllBilling       = "galley.billing.>"
	AllLimits        = "galley.limits.*"
	AllDeadLetters   = "galley.dead.>"
	AllRedrives      = "galley.redrive.>"
	AllSignals       = "galley.signal.>"
	AllDelays        = "galley.delay.>"
	AllDue           = "galley.due.>"
	AllDueExecutions = "galley.due.execution.>"
	AllDueSchedules  = "galley.due.schedule.>"
	AllDuePeriods    = "galley.due.billing.*"
	AllNotices       = "galley.notify.>"
	AllLimited       = "galley.limited.*"
)

// TreeHead is where the signed tree heads of the audit log are published.
const TreeHead = "galley.audit.tree_head"

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

// RunRequestCustomer is what stands in the place of the customer in the subject of a run request: a producer may have written anything.
func RunRequestCustomer(subject string) string {
	return strings.TrimPrefix(subject, RunRequest(""))
}

// RunRejected is where a refused request is reported.
func RunRejected(customer string) string {
	return "galley.run.rejected." + customer
}

// Activity is the subject of what was done in the name of the customer. action is "<resource>.<verb>", such as
// "recipe.published". A customer that is empty, because it is not known, becomes "-", which is no valid id.
func Activity(customer, action string) string {
	if customer == "" {
		customer = "-"
	}
	return "galley.activity." + customer + "." + action
}

// Billing is where a customer is told of the balance: low_balance or exhausted.
func Billing(customer, event string) string {
	return "galley.billing." + customer + "." + event
}

// Limits is where it is told what the customer's plan allows.
func Limits(customer string) string {
	return "galley.limits." + customer
}

// ParseLimits takes the subject of what a customer's plan allows apart.
func ParseLimits(subject string) (customer string, err error) {
	customer, found := strings.CutPrefix(subject, Limits(""))
	if !found || !ValidID(customer) {
		return "", fmt.Errorf("subject %q: not galley.limits.<customer>", subject)
	}
	return customer, nil
}

// Limited is where it is said that a limit of the customer's executions under way, or of those of one of its recipes, may have changed.
func Limited(customer string) string {
	return "galley.limited." + customer
}

// ParseLimited takes the subject of a change of limits apart.
func ParseLimited(subject string) (customer string, err error) {
	customer, found := strings.CutPrefix(subject, Limited(""))
	if !found || !ValidID(customer) {
		return "", fmt.Errorf("subject %q: not galley.limited.<customer>", subject)
	}
	return customer, nil
}

// DeadLetter is where messages of a stream go that cannot be processed.
func DeadLetter(stream string) string {
	return "galley.dead." + stream
}

// Redrive is where a dead letter goes that the consumer of the stream is to process again.
func Redrive(stream, consumer string) string {
	return "galley.redrive." + stream + "." + consumer
}

// Delay is where a wake-up call for the execution waits for its time. There is one at a time: a later one replaces it.
func (e Execution) Delay() string {
	return "galley.delay.execution." + e.Customer + "." + e.ID
}

// Due is where a wake-up call for the execution is made.
func (e Execution) Due() string {
	return "galley.due.execution." + e.Customer + "." + e.ID
}

// Notify is where the process that works on the execution, if any, is told to look: at a signal, or whether it was ended.
func (e Execution) Notify() string {
	return "galley.notify." + e.Customer + "." + e.ID
}

// Signal is where a producer publishes an event that the execution waits for.
func (e Execution) Signal(name string) string {
	return "galley.signal." + e.Customer + "." + e.ID + "." + name
}

// ParseSignal takes the subject of an event that an execution waits for apart. With an error, Customer is what stands in its place.
func ParseSignal(subject string) (execution Execution, name string, err error) {
	rest, found := strings.CutPrefix(subject, "galley.signal.")
	parts := strings.Split(rest, ".")
	if !found || len(parts) != 3 || !ValidID(parts[0]) || !ValidID(parts[1]) || !ValidID(parts[2]) {
		return Execution{Customer: parts[0]}, "", fmt.Errorf("subject %q: not galley.signal.<customer>.<execution>.<name>", subject)
	}
	return Execution{Customer: parts[0], ID: parts[1]}, parts[2], nil
}

// SignalKind tells the two uses of a signal apart.
type SignalKind string

const (
	// SignalEvent is an event, by its name.
	SignalEvent SignalKind = "event"
	// SignalApproval is a decision, by the id of the step that waits for it, with ".<index>" for an item of a foreach.
	SignalApproval SignalKind = "approval"
)

// SignalKey is the key of a signal in the bucket signals.
func (e Execution) SignalKey(kind SignalKind, name string) string {
	return e.Customer + "." + e.ID + "." + string(kind) + "." + name
}

// ParseDue takes the subject of a wake-up call apart.
func ParseDue(subject string) (Execution, error) {
	return parsePair(subject, "galley.due.execution.")
}

// ParseNotify takes the subject of a notice apart.
func ParseNotify(subject string) (Execution, error) {
	return parsePair(subject, "galley.notify.")
}

func parsePair(subject, prefix string) (Execution, error) {
	rest, found := strings.CutPrefix(subject, prefix)
	customer, id, cut := strings.Cut(rest, ".")
	if !found || !cut || !ValidID(customer) || !ValidID(id) {
		return Execution{}, fmt.Errorf("subject %q: not %s<customer>.<execution>", subject, prefix)
	}
	return Execution{Customer: customer, ID: id}, nil
}

// ScheduleDelay is where the next start of a schedule waits for its time.
func ScheduleDelay(customer, schedule string) string {
	return "galley.delay.schedule." + customer + "." + schedule
}

// ScheduleDue is where the start of a schedule is due.
func ScheduleDue(customer, schedule string) string {
	return "galley.due.schedule." + customer + "." + schedule
}

// ParseScheduleDue takes the subject of a start that is due apart.
func ParseScheduleDue(subject string) (customer, schedule string, err error) {
	pair, err := parsePair(subject, "galley.due.schedule.")
	if err != nil {
		return "", "", fmt.Errorf("subject %q: not galley.due.schedule.<customer>.<schedule>", subject)
	}
	return pair.Customer, pair.ID, nil
}

// PeriodDelay is where the end of the period of a customer's subscription waits for its time.
func PeriodDelay(customer string) string {
	return "galley.delay.billing." + customer
}

// PeriodDue is where the end of the period is due.
func PeriodDue(customer string) string {
	return "galley.due.billing." + customer
}

// ParsePeriodDue takes the subject of a period's end apart.
func ParsePeriodDue(subject string) (customer string, err error) {
	customer, found := strings.CutPrefix(subject, "galley.due.billing.")
	if !found || !ValidID(customer) {
		return "", fmt.Errorf("subject %q: not galley.due.billing.<customer>", subject)
	}
	return customer, nil
}

// ScheduleKey is the key of a schedule in the bucket schedules.
func ScheduleKey(customer, schedule string) string {
	return customer + "." + schedule
}

// SecretKey is the key of a secret in the bucket secrets.
func SecretKey(customer, name string) string {
	return customer + "." + name
}

// StoreKey is the key of a value in the bucket store. key is one or more ids with a dot between each two.
func StoreKey(customer, key string) string {
	return customer + "." + key
}

// Worker is where a worker gets its calls. A worker that serves every customer subscribes with "*" in the place of the customer.
func Worker(customer, name string) string {
	return "galley.worker." + customer + "." + name
}

// WorkerCall is where whoever works on a call is told to cancel it, or asked whether it still does. step has "." and the index appended for
// an item of a foreach.
func (e Execution) WorkerCall(step string) string {
	return "galley.call." + e.Customer + "." + e.ID + "." + step
}

// WorkerReply is where a worker answers a call of the process. The subject has the customer in it so that a customer's worker needs to publish
// nowhere else.
func WorkerReply(customer, process, call string) string {
	return "galley.reply." + customer + "." + process + "." + call
}

// WorkerReplies is the wildcard over the answers to all calls of the process.
func WorkerReplies(process string) string {
	return WorkerReply("*", process, "*")
}

// Progress is where partial results of a step are published while it runs; nothing stores them. step is as in WorkerCall.
func (e Execution) Progress(step string) string {
	return "galley.progress." + e.Customer + "." + e.ID + "." + step
}

// Query is the request-reply subject of a service's query.
func Query(service, name string) string {
	return "galley.query." + service + "." + name
}

// RecipeKey is the key of a recipe version in the bucket recipes.
func RecipeKey(customer, agent, recipe string, version int) string {
	return fmt.Sprintf("%s.%s.%s.%d", customer, agent, recipe, version)
}
