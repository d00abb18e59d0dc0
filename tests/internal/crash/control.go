package crash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/tests/internal/harness"
)

// cancelled is what a caller heard who wanted an execution cancelled.
type cancelled struct {
	// Response is the body of the 200; nil when there was none.
	Response []byte
	// Unsure: an answer was lost, so that the execution may have been cancelled without a 200.
	Unsure bool
}

const (
	// An execution is left alone for up to one of these before it is cancelled or sent its event: some go on, some wait, some have ended.
	shortPause = 300 * time.Millisecond
	longPause  = 8 * time.Second
	// cancelOneOf is how many orders there are for one that is cancelled.
	cancelOneOf = 3
)

// underWay executes the order, and while it is under way sends it the event that it waits for and, now and then, cancels it.
func (c *callers) underWay(ctx context.Context, o *order, client *harness.Client) error {
	accepted, err := c.accept(ctx, o, client, "respond-async")
	if err != nil {
		return err
	}
	if err := o.learn(accepted); err != nil {
		return err
	}
	path, recipe, marker := harness.API+"/executions/"+o.Execution, o.Recipe, o.Marker
	cancel := oneOf(cancelOneOf)
	if cancel {
		o.Cancel = &cancelled{}
	}
	heard := o.Cancel
	var group sync.WaitGroup
	var following, signalling, cancelling error
	group.Go(func() { following = c.follow(ctx, o, client, accepted) })
	if recipe == "signalled" {
		group.Go(func() { signalling = c.signal(ctx, path, marker, client) })
	}
	if cancel {
		group.Go(func() { cancelling = c.cancel(ctx, path, heard, client) })
	}
	group.Wait()
	return errors.Join(following, signalling, cancelling)
}

// signal sends the event until it is taken, or the execution has ended without it.
func (c *callers) signal(ctx context.Context, path, marker string, client *harness.Client) error {
	if !pause(ctx, longPause) {
		return ctx.Err()
	}
	return c.again(ctx, func(ctx context.Context) (bool, error) {
		answer, err := client.Call(ctx, http.MethodPost, path+"/signals/go", map[string]string{"marker": marker})
		if err != nil {
			return false, err
		}
		if hasEnded(answer) {
			return true, nil
		}
		return settled(answer, http.StatusAccepted)
	})
}

// cancel asks for the end of the execution until it hears that it has ended.
func (c *callers) cancel(ctx context.Context, path string, heard *cancelled, client *harness.Client) error {
	limit := longPause
	if oneOf(2) {
		limit = shortPause
	}
	if !pause(ctx, limit) {
		return ctx.Err()
	}
	return c.again(ctx, func(ctx context.Context) (bool, error) {
		answer, err := client.Call(ctx, http.MethodPost, path+"/cancel", map[string]string{"reason": "crash test"})
		if err != nil {
			heard.Unsure = true
			return false, err
		}
		if hasEnded(answer) {
			return true, nil
		}
		done, err := settled(answer, http.StatusOK)
		switch {
		case !done:
			heard.Unsure = true
		case err == nil:
			heard.Response = answer.Body
		}
		return done, err
	})
}

// hasEnded tells whether an answer says that nothing can be done to the execution any more.
func hasEnded(answer harness.Answer) bool {
	var refused struct {
		Code problem.Code `json:"code"`
	}
	return answer.Status == http.StatusConflict && answer.JSON(&refused) == nil && refused.Code == problem.ExecutionEnded
}

// noneStuck asks the operator's list of executions that are stuck.
func noneStuck(ctx context.Context, operator *harness.Client) error {
	answer, err := operator.Call(ctx, http.MethodGet, harness.API+"/executions/stuck", nil)
	if err != nil {
		return err
	}
	var list struct {
		Items []struct{} `json:"items"`
	}
	if err := answer.JSON(&list); answer.Status != http.StatusOK || err != nil || len(list.Items) > 0 {
		return fmt.Errorf("executions are stuck: %s", answer)
	}
	return nil
}
