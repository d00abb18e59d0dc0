package harness

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"

	"github.com/galley-engine/galley/schemas/credit"
)

// API is the path under which the HTTP API is.
const API = "/api/v1"

// expect calls, decodes the answer into target (unless that is nil), and fails when the status is another one.
func (c *Client) expect(ctx context.Context, status int, target any, method, path string, body any, headers ...string) error {
	answer, err := c.Call(ctx, method, API+path, body, headers...)
	if err != nil {
		return err
	}
	if answer.Status != status {
		return fmt.Errorf("%s %s: answered %s", method, path, answer)
	}
	if target == nil {
		return nil
	}
	return answer.JSON(target)
}

// Customer makes a customer with credits and gives a client with the customer's key.
func (i *Installation) Customer(ctx context.Context, id string, credits credit.Micro) (*Client, error) {
	var made struct {
		Key string `json:"api_key"`
	}
	err := i.Operator().expect(ctx, http.StatusCreated, &made, http.MethodPost, "/customers", map[string]any{"customer_id": id, "name": id})
	if err != nil {
		return nil, fmt.Errorf("make customer %s: %w", id, err)
	}
	if credits > 0 {
		if err := i.Grant(ctx, id, id+"-first", credits); err != nil {
			return nil, err
		}
	}
	return &Client{Base: i.base, Key: made.Key}, nil
}

// Grant gives a customer credits. The same id is the same grant.
func (i *Installation) Grant(ctx context.Context, customer, id string, amount credit.Micro) error {
	body := map[string]any{"customer_id": customer, "amount": amount, "reason": "test"}
	answer, err := i.Operator().Call(ctx, http.MethodPost, API+"/credits/grants", body, "Idempotency-Key", id)
	if err != nil {
		return fmt.Errorf("grant credits to %s: %w", customer, err)
	}
	if answer.Status != http.StatusCreated && answer.Status != http.StatusOK {
		return fmt.Errorf("grant credits to %s: answered %s", customer, answer)
	}
	return nil
}

// Agent makes an agent of the client's customer.
func (c *Client) Agent(ctx context.Context, id string) error {
	return c.expect(ctx, http.StatusCreated, nil, http.MethodPost, "/agents", map[string]string{"agent_id": id, "name": id})
}

// Publish publishes a recipe document in YAML for the client's customer.
func (c *Client) Publish(ctx context.Context, document string) error {
	return c.expect(ctx, http.StatusCreated, nil, http.MethodPost, "/recipes", []byte(document), "Content-Type", "application/yaml")
}

// PutSecret keeps a secret of the client's customer.
func (c *Client) PutSecret(ctx context.Context, name, value string) error {
	return c.expect(ctx, http.StatusNoContent, nil, http.MethodPut, "/secrets/"+name, map[string]string{"value": value})
}

// Reconcile runs the command that compares balances, ledger and journal. The error is not nil when it finds a difference.
func (i *Installation) Reconcile(ctx context.Context) ([]byte, error) {
	url, err := i.DatabaseURL()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, filepath.Join(i.binaries, Billing), "reconcile")
	if i.mode == Single {
		command = exec.CommandContext(ctx, filepath.Join(i.binaries, Galley), "billing", "reconcile")
	}
	command.Env = append(cleanEnvironment(), "GALLEY_DATABASE_URL="+url, "GALLEY_NATS_URL="+i.natsURL)
	return command.CombinedOutput()
}
