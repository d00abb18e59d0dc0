package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/subject"
)

// MaxExecution is the longest that an execution may take from its acceptance. The journal must be kept longer than that.
const MaxExecution = 24 * time.Hour

const (
	// DefaultJournalRetention is how long the journal keeps an execution's events.
	DefaultJournalRetention = 72 * time.Hour

	activityRetention   = 30 * 24 * time.Hour
	billingRetention    = 30 * 24 * time.Hour
	deadLetterRetention = 90 * 24 * time.Hour
	dedupeWindow        = 2 * time.Minute
	// keptTreeHeads are those of twelve days that have one each second; the last one stays for ever.
	keptTreeHeads  = 1 << 20
	storeMarkerTTL = time.Minute
)

// Settings say how the streams are kept.
type Settings struct {
	// Replicas is 1, or 3 in a cluster.
	Replicas int
	// JournalRetention must be longer than MaxExecution.
	JournalRetention time.Duration
}

// Validate joins everything that is wrong.
func (s Settings) Validate() error {
	var problems []error
	if s.Replicas != 1 && s.Replicas != 3 && s.Replicas != 5 {
		problems = append(problems, fmt.Errorf("%d stream replicas: must be 1, 3 or 5", s.Replicas))
	}
	if s.JournalRetention <= MaxExecution {
		problems = append(problems, fmt.Errorf("journal retention %v: must be longer than the longest execution, %v",
			s.JournalRetention, MaxExecution))
	}
	return errors.Join(problems...)
}

// Provision creates the streams and buckets, or brings them up to date. Every service calls it when it starts and whenever a stream
// is missing, so there is no order of starting. What is as it should be is left alone: an update, also one that changes nothing,
// races with whatever the server is doing to the stream at the moment.
func (b *Bus) Provision(ctx context.Context) error {
	for _, stream := range b.streams() {
		_, err := b.JS.CreateStream(ctx, stream)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			_, err = b.JS.UpdateStream(ctx, stream)
		}
		if err != nil {
			return fmt.Errorf("provision stream %s: %w", stream.Name, err)
		}
	}
	for _, bucket := range b.buckets() {
		_, err := b.JS.CreateKeyValue(ctx, bucket)
		if errors.Is(err, jetstream.ErrBucketExists) {
			_, err = b.JS.UpdateKeyValue(ctx, bucket)
		}
		if err != nil {
			return fmt.Errorf("provision bucket %s: %w", bucket.Bucket, err)
		}
	}
	if err := b.provisionFiles(ctx); err != nil {
		return err
	}
	b.provisioned.Store(true)
	return nil
}

func (b *Bus) provisionFiles(ctx context.Context) error {
	files := jetstream.ObjectStoreConfig{
		Bucket: subject.BucketFiles, Description: "Customers' files", TTL: b.settings.JournalRetention,
		Storage: jetstream.FileStorage, Replicas: b.settings.Replicas,
	}
	_, err := b.JS.CreateObjectStore(ctx, files)
	if errors.Is(err, jetstream.ErrBucketExists) {
		_, err = b.JS.UpdateObjectStore(ctx, files)
	}
	if err != nil {
		return fmt.Errorf("provision object store %s: %w", files.Bucket, err)
	}
	return nil
}

func (b *Bus) buckets() []jetstream.KeyValueConfig {
	file := func(name, description string, maxAge time.Duration) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket: name, Description: description, TTL: maxAge, Storage: jetstream.FileStorage, Replicas: b.settings.Replicas,
		}
	}
	store := file(subject.BucketStore, "What customers' recipes keep beyond an execution", 0)
	store.LimitMarkerTTL = storeMarkerTTL // keys may have a time to live of their own
	return []jetstream.KeyValueConfig{
		file(subject.BucketRecipes, "Immutable recipe versions", 0),
		file(subject.BucketSignals, "Events and decisions that executions wait for", b.settings.JournalRetention),
		file(subject.BucketSchedules, "When recipes start by themselves", 0),
		file(subject.BucketSecrets, "Customers' secrets, encrypted", 0),
		store,
		file(subject.BucketSlots, "Executions under way where their number is limited", 0),
	}
}

func (b *Bus) streams() []jetstream.StreamConfig {
	file := func(name, description string, retention jetstream.RetentionPolicy, maxAge time.Duration, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: description, Subjects: subjects, Retention: retention, MaxAge: maxAge,
			Storage: jetstream.FileStorage, Replicas: b.settings.Replicas, Duplicates: dedupeWindow,
		}
	}
	journal := file(subject.StreamExecutions, "The journal: every execution's ordered events",
		jetstream.LimitsPolicy, b.settings.JournalRetention, subject.AllExecutions)
	journal.AllowDirect, journal.DenyDelete, journal.DenyPurge = true, true, true
	delays := file(subject.StreamDelays, "Wake-up calls and starts, for later and due", jetstream.WorkQueuePolicy, 0,
		subject.AllDelays, subject.AllDue)
	delays.AllowMsgSchedules, delays.AllowRollup = true, true
	runs := file(subject.StreamRuns, "Requests to run a recipe", jetstream.WorkQueuePolicy, 0, subject.AllRuns)
	runs.AllowDirect = true
	limits := file(subject.StreamLimits, "What customers' plans allow, the last of each customer", jetstream.LimitsPolicy, 0, subject.AllLimits)
	limits.MaxMsgsPerSubject = 1
	heads := file(subject.StreamTreeHeads, "Signed tree heads of the audit log", jetstream.LimitsPolicy, 0, subject.TreeHead)
	heads.MaxMsgs, heads.DenyDelete, heads.DenyPurge = keptTreeHeads, true, true
	return []jetstream.StreamConfig{
		heads,
		journal,
		delays,
		file(subject.StreamSignals, "Events for executions that wait", jetstream.WorkQueuePolicy, 0, subject.AllSignals),
		runs,
		file(subject.StreamActivity, "What people and services did", jetstream.LimitsPolicy, activityRetention,
			subject.AllActivity, subject.AllRejected),
		file(subject.StreamBilling, "What customers are told of their balances", jetstream.LimitsPolicy, billingRetention, subject.AllBilling),
		limits,
		file(subject.StreamDeadLetters, "Messages that cannot be processed", jetstream.LimitsPolicy, deadLetterRetention,
			subject.AllDeadLetters),
		file(subject.StreamRedrives, "Dead letters to be processed again", jetstream.WorkQueuePolicy, 0, subject.AllRedrives),
	}
}
