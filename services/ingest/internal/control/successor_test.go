package control_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/control"
)

// recipeOf makes a recipe of steps, written "a b? c* (d e | f) g": ? for one that may fail, * for a foreach.
func recipeOf(t *testing.T, text string) *recipe.Recipe {
	t.Helper()
	made := &recipe.Recipe{}
	words := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ", "|", " | ").Replace(text))
	var list func() []recipe.Stage
	list = func() (stages []recipe.Stage) {
		for len(words) > 0 {
			word := words[0]
			if word == ")" || word == "|" {
				return stages
			}
			words = words[1:]
			if word == "(" {
				stage := recipe.Stage{Branches: [][]recipe.Stage{list()}}
				for words[0] == "|" {
					words = words[1:]
					stage.Branches = append(stage.Branches, list())
				}
				words = words[1:]
				stages = append(stages, stage)
				continue
			}
			step := &recipe.Step{ID: strings.TrimRight(word, "?*"), OnError: recipe.OnErrorFail}
			if strings.Contains(word, "?") {
				step.OnError = recipe.OnErrorContinue
			}
			if strings.Contains(word, "*") {
				step.ForEach = &recipe.ForEach{MaxItems: 10}
			}
			made.Steps = append(made.Steps, step)
			stages = append(stages, recipe.Stage{Step: step})
		}
		return stages
	}
	made.Stages = list()
	require.Empty(t, words)
	return made
}

// outcomes reads "a b! c=250000": a has succeeded for nothing, b has failed, c has succeeded for 0.25 credits. In "d[0;1!;2=5]" items
// of a foreach under way have succeeded, failed, and succeeded for 5 micro-credits.
func outcomes(t *testing.T, text string) []event.StepOutcome {
	t.Helper()
	found := []event.StepOutcome{}
	for word := range strings.FieldsSeq(text) {
		id, items, foreach := strings.Cut(word, "[")
		id, price, _ := strings.Cut(id, "=")
		id, failed := strings.CutSuffix(id, "!")
		outcome := step(id, event.StepSuccess, number(t, price))
		if failed {
			outcome.Status, outcome.Output, outcome.Error = event.StepFailed, nil, &problem.Error{Code: problem.Upstream5xx, Step: id}
		}
		if foreach {
			if !failed {
				outcome.Status, outcome.Attempts, outcome.Output = event.StepRunning, 0, nil
			}
			for item := range strings.SplitSeq(strings.TrimSuffix(items, "]"), ";") {
				index, price, _ := strings.Cut(item, "=")
				index, failed := strings.CutSuffix(index, "!")
				done := event.ItemOutcome{Index: int(number(t, index)), Status: event.StepSuccess, Attempts: 1, Credits: micro(number(t, price))}
				if failed {
					done.Status = event.StepFailed
				}
				outcome.Items = append(outcome.Items, done)
			}
		}
		found = append(found, outcome)
	}
	return found
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	if text == "" {
		return 0
	}
	var n int64
	require.NoError(t, json.Unmarshal([]byte(text), &n))
	return n
}

// written is the form that outcomes reads.
func written(steps []event.StepOutcome) string {
	words := make([]string, 0, len(steps))
	priced := func(text string, failed bool, credits int64) string {
		if failed {
			text += "!"
		}
		if credits > 0 {
			text += "=" + string(must(json.Marshal(credits)))
		}
		return text
	}
	for _, step := range steps {
		word := priced(step.ID, step.Status == event.StepFailed, int64(step.Credits))
		if step.Items != nil {
			items := make([]string, 0, len(step.Items))
			for _, item := range step.Items {
				items = append(items, priced(string(must(json.Marshal(item.Index))), item.Status == event.StepFailed, int64(item.Credits)))
			}
			word += "[" + strings.Join(items, ";") + "]"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// ran writes the journal of an execution that came to the checkpoints and then ended. Its state names the checkpoint.
func (f *fixture) ran(t *testing.T, origin *event.Origin, status event.Status, failed string, checkpoints ...string) *script {
	t.Helper()
	s := f.accept(t, event.Request{Origin: origin}).append(t, event.Funded, "", nats.Header{}, "x")
	for i, text := range checkpoints {
		kind := []event.Kind{event.Step, event.Started, event.Waiting}[i%3]
		s.checkpoint(t, kind, event.Checkpoint{State: map[string]any{"at": text}, Steps: outcomes(t, text)})
	}
	return s.end(t, status, failed)
}

func TestSuccessor(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for i, text := range []string{
		"a b? c d", "a b? d c", "a c d", "a b? c d e", "a* b c", "a (b c | d e) f", "a b c d", "a b* c d",
	} {
		f.shelf[i+1] = recipeOf(t, text)
	}
	const failed, success = event.StatusFailed, event.StatusSuccess
	for name, test := range map[string]struct {
		status      event.Status
		failed      string
		checkpoints []string
		wish        control.Wish
		kept, begin string // state is the text of a checkpoint, see below
		state       string
		conflict    string
	}{
		"resume": {
			failed, "d", []string{"a=5", "a=5 b c=7"}, control.Wish{Verb: event.VerbResume}, "a=5 b c=7", "d", "a=5 b c=7", "",
		},
		"resume without checkpoint": {failed, "a", nil, control.Wish{Verb: event.VerbResume}, "", "a", "", ""},
		"resume what no step ended": {failed, "", []string{"a"}, control.Wish{Verb: event.VerbResume}, "a", "b", "a", ""},
		"resume leaves the failure out": {
			failed, "c", []string{"a", "a b! c!"}, control.Wish{Verb: event.VerbResume}, "a b!", "c", "a b! c!", "",
		},
		"resume begins at a step that may fail and ended it": {
			failed, "b", []string{"a b!"}, control.Wish{Verb: event.VerbResume}, "a", "b", "a b!", "",
		},
		"resume with a version that has another step at the end": {
			failed, "d", []string{"a b c"}, control.Wish{Verb: event.VerbResume, Version: 4}, "a b c", "d", "a b c", "",
		},
		"resume with a version in another order": {
			failed, "d",
			[]string{"a b c"},
			control.Wish{Verb: event.VerbResume, Version: 2},
			"", "", "",
			"step c is done, and in version 2 of the recipe it comes after d, which is to be run",
		},
		"resume with a version without a step": {
			failed, "d",
			[]string{"a b c"},
			control.Wish{Verb: event.VerbResume, Version: 3},
			"", "", "",
			"step b is done, and version 3 of the recipe does not have it",
		},
		"resume with a version in which a failure ends it": {
			failed, "d",
			[]string{"a b! c"},
			control.Wish{Verb: event.VerbResume, Version: 7},
			"", "", "",
			"step c is done, and in version 7 of the recipe it comes after b, which is to be run",
		},
		"resume a foreach": {
			failed, "a", []string{"a[0=5;1!;2=5]"}, control.Wish{Verb: event.VerbResume, Version: 5}, "a[0=5;2=5]", "a", "a[0=5;1!;2=5]", "",
		},
		"resume a foreach that has failed": {
			failed, "a",
			[]string{"a!=10[0=5;1!;2=5]"},
			control.Wish{Verb: event.VerbResume, Version: 5},
			"a[0=5;2=5]", "a",
			"a!=10[0=5;1!;2=5]", "",
		},
		"resume a foreach without success": {
			failed, "a", []string{"a[1!]"}, control.Wish{Verb: event.VerbResume, Version: 5}, "", "a", "a[1!]", "",
		},
		"resume a foreach that is none": {
			failed, "a",
			[]string{"a[1]"},
			control.Wish{Verb: event.VerbResume},
			"", "", "",
			"step a has done a part of its items, and in version 1 of the recipe it has none",
		},
		"resume branches": {
			failed, "b", []string{"a d e=5"}, control.Wish{Verb: event.VerbResume, Version: 6}, "a d e=5", "b", "a d e=5", "",
		},
		"resume after branches that are open": {
			failed, "b",
			[]string{"a d e f"},
			control.Wish{Verb: event.VerbResume, Version: 6},
			"", "", "",
			"step f is done, and in version 6 of the recipe it comes after b, which is to be run",
		},
		"resume a success": {
			success, "", []string{"a"}, control.Wish{Verb: event.VerbResume}, "", "", "", "only a failed execution can be resumed",
		},
		"rerun": {success, "", []string{"a=5"}, control.Wish{Verb: event.VerbRerun}, "", "", "", ""},
		"rerun a failure with another version": {
			failed, "a", []string{"a=5"}, control.Wish{Verb: event.VerbRerun, Version: 2}, "", "", "", "",
		},
		"rerun from a step": {
			success, "", []string{"a=5", "a=5 b", "a=5 b c=7"}, control.Wish{Verb: event.VerbRerunFrom, Step: "c"}, "a b", "c", "a=5 b", "",
		},
		"rerun a failure from a step": {
			failed, "d", []string{"a=5", "a=5 b", "a=5 b c=7"}, control.Wish{Verb: event.VerbRerunFrom, Step: "b"}, "a=5", "b", "a=5", "",
		},
		"rerun from the first step": {
			failed, "d", []string{"a=5", "a=5 b"}, control.Wish{Verb: event.VerbRerunFrom, Step: "a"}, "", "a", "", "",
		},
		"rerun from a step after a foreach under way": {
			success, "",
			[]string{"a b[0=5]", "a b[0=5;1=5]", "a b c"},
			control.Wish{Verb: event.VerbRerunFrom, Step: "c", Version: 8},
			"a b[0;1]", "c", "a b[0=5;1=5]", "",
		},
		"rerun from a step of a branch": {
			success, "", []string{"a b", "a b d", "a b d c"}, control.Wish{Verb: event.VerbRerunFrom, Step: "d", Version: 6}, "a b", "d", "a b", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := f.ran(t, nil, test.status, test.failed, test.checkpoints...)
			command, err := f.Successor(t.Context(), s.execution, test.wish)
			if test.conflict != "" {
				require.Equal(t, problem.Conflict, codeOf(t, err))
				require.ErrorContains(t, err, test.conflict)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{"alice", "cook", "soup", `{"litres":2}`},
				[]string{command.Customer, command.Agent, command.Recipe, string(command.Input)})
			require.Equal(t, max(test.wish.Version, 1), command.Version)
			require.Equal(t, []any{s.execution.ID, test.wish.Verb, test.begin},
				[]any{command.Origin.ExecutionID, command.Origin.Verb, command.Origin.Step})
			require.Equal(t, test.kept, written(command.Origin.Steps))
			at, _ := command.Origin.State["at"].(string)
			require.Equal(t, test.state, at)
		})
	}
}

func TestSuccessorOfASuccessor(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.shelf[1] = recipeOf(t, "a b c d")
	first := f.ran(t, nil, event.StatusFailed, "c", "a=5", "a=5 b=7")
	origin := func(s *script) *event.Origin {
		return &event.Origin{
			ExecutionID: s.execution.ID, Verb: event.VerbResume, Step: "c", State: map[string]any{"at": "begin"}, Steps: outcomes(t, "a=5 b=7"),
		}
	}
	again := f.ran(t, origin(first), event.StatusFailed, "c")
	resume, from := control.Wish{Verb: event.VerbResume}, control.Wish{Verb: event.VerbRerunFrom, Step: "b"}

	command, err := f.Successor(t.Context(), again.execution, resume)
	require.NoError(t, err)
	require.Equal(t, "a=5 b=7", written(command.Origin.Steps), "what it took over is what it came to")
	require.Equal(t, "begin", command.Origin.State["at"])

	command, err = f.Successor(t.Context(), again.execution, from)
	require.NoError(t, err)
	require.Equal(t, "a=5", written(command.Origin.Steps), "found in the journal of the first one")
	require.Equal(t, again.execution.ID, command.Origin.ExecutionID)

	for _, wish := range []control.Wish{resume, from} {
		short := f.accept(t, event.Request{Origin: origin(first)})
		short.append(t, event.Waiting, event.WaitingForCredits, nats.Header{}, event.Checkpoint{Steps: []event.StepOutcome{}})
		command, err = f.Successor(t.Context(), short.end(t, event.StatusFailed, "c").execution, wish)
		require.NoError(t, err)
		require.Equal(t, map[event.Verb]string{event.VerbResume: "a=5 b=7", event.VerbRerunFrom: "a=5"}[wish.Verb], written(command.Origin.Steps),
			"no credits came, and it has what it took over")
	}

	paid := f.ran(t, origin(first), event.StatusSuccess, "", "a=5 b=7 c=9")
	command, err = f.Successor(t.Context(), paid.execution, from)
	require.NoError(t, err)
	require.Equal(t, "a", written(command.Origin.Steps), "the second one has paid for it")

	lost := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	f.past[lost.ID] = true
	orphan := f.ran(t, &event.Origin{ExecutionID: lost.ID, Steps: outcomes(t, "a b")}, event.StatusFailed, "c")
	_, err = f.Successor(t.Context(), orphan.execution, from)
	require.Equal(t, problem.Conflict, codeOf(t, err))
	require.ErrorContains(t, err, "has expired")
}

func TestSuccessorRefuses(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.shelf[1] = recipeOf(t, "a b c d")
	failed, running := f.ran(t, nil, event.StatusFailed, "b", "a"), f.accept(t, event.Request{})
	expired := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	f.past[expired.ID] = true
	for name, test := range map[string]struct {
		execution subject.Execution
		wish      control.Wish
		code      problem.Code
		message   string
	}{
		"running":            {running.execution, control.Wish{Verb: event.VerbResume}, problem.Conflict, "has not ended"},
		"rerun of running":   {running.execution, control.Wish{Verb: event.VerbRerun}, problem.Conflict, "has not ended"},
		"expired":            {expired, control.Wish{Verb: event.VerbRerun}, problem.Conflict, "has expired"},
		"unknown":            {subject.Execution{Customer: "alice", ID: uuid.NewString()}, control.Wish{Verb: event.VerbRerun}, problem.NotFound, ""},
		"another customer's": {subject.Execution{Customer: "bob", ID: failed.execution.ID}, control.Wish{Verb: event.VerbResume}, problem.NotFound, ""},
		"unknown step":       {failed.execution, control.Wish{Verb: event.VerbRerunFrom, Step: "x"}, problem.InvalidRequest, "/from_step"},
		"unknown version":    {failed.execution, control.Wish{Verb: event.VerbResume, Version: 9}, problem.NotFound, ""},
	} {
		_, err := f.Successor(t.Context(), test.execution, test.wish)
		require.Equal(t, test.code, codeOf(t, err), name)
		require.ErrorContains(t, err, test.message, name)
	}
}
