// Package cli is the command line of galley: the server in one process, and the client.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/galley-engine/galley/cmd/galley/internal/report"
	"github.com/galley-engine/galley/pkg/config"
	"github.com/galley-engine/galley/pkg/lifecycle"
)

// Process is what a command gets from the operating system.
type Process struct {
	Args    []string
	Environ []string
	In      *os.File
	Out     io.Writer
	Err     io.Writer
	// Exit ends the process.
	Exit func(code int)
	// Signals delivers every SIGINT and SIGTERM. The first one ends the context of the command, a second one must end the process.
	Signals <-chan os.Signal
}

const description = `galley runs recipes: priced, debited, executed step by step, audited and answered.

"galley up" starts everything in one process; the other commands talk to it. Every setting is a flag and a variable.`

type grammar struct {
	Up         upCommand    `cmd:"" help:"Start everything: NATS, a private Postgres, all services, the HTTP API."`
	Demo       demoCommand  `cmd:"" help:"Start everything in a temporary directory, run the example once, and clean up."`
	Run        runCommand   `cmd:"" help:"Run a recipe and print the response."`
	Quote      quoteCommand `cmd:"" help:"Print what running a recipe may cost, without running it."`
	Recipe     recipeGroup  `cmd:"" help:"Check and publish recipes."`
	Executions struct {
		List executionsListCommand `cmd:"" default:"withargs" help:"List executions, the newest first."`
		Get  executionsGetCommand  `cmd:"" help:"Print an execution."`

		Watch executionsWatchCommand `cmd:"" help:"Follow an execution until it ends: what its steps tell, then the response."`

		Cancel  executionsCancelCommand  `cmd:"" help:"End an execution; only what was measured is charged."`
		Resume  executionsResumeCommand  `cmd:"" help:"Go on from where an execution failed, and print the response."`
		Rerun   executionsRerunCommand   `cmd:"" help:"Repeat an execution, or a part of it, and print the response."`
		Signal  executionsSignalCommand  `cmd:"" help:"Give an execution the event that it waits for."`
		Approve executionsApproveCommand `cmd:"" help:"Approve what a step of an execution asks for."`
		Reject  executionsRejectCommand  `cmd:"" help:"Reject what a step of an execution asks for."`

		Stuck executionsStuckCommand `cmd:"" help:"List executions that are stuck (operator); exit 1 when there are any."`
	} `cmd:"" help:"Look at executions, end, repeat and answer them."`
	Credits struct {
		Show       creditsShowCommand       `cmd:"" default:"withargs" help:"Print the balance, what is left of which grants, and the newest rows of the ledger."`
		Grant      creditsGrantCommand      `cmd:"" help:"Give a customer credits (operator)."`
		Overdraft  creditsOverdraftCommand  `cmd:"" help:"Set how far debits may bring a customer's balance below 0 (operator)."`
		LowBalance creditsLowBalanceCommand `cmd:"" help:"Set below which balance a customer is told (operator)."`
	} `cmd:"" help:"Look at credits and grant them."`
	Receipt   receiptCommand   `cmd:"" help:"Print what an execution costs, and for what."`
	Usage     usageCommand     `cmd:"" help:"Report what was used, by day, recipe, kind of step or customer."`
	Statement statementCommand `cmd:"" help:"Print the statement of a period; exit 1 when it does not add up."`

	Customers    customersGroup    `cmd:"" help:"Look at the limits of customers and set them (operator)."`
	Keys         keysGroup         `cmd:"" help:"Create, list and revoke the API keys of customers (operator)."`
	Plans        plansGroup        `cmd:"" help:"Look at plans and publish them."`
	Subscription subscriptionGroup `cmd:"" help:"Look at subscriptions, set and cancel them."`
	Secrets      struct {
		List   secretsListCommand   `cmd:"" default:"withargs" help:"List the names of the secrets."`
		Set    secretsSetCommand    `cmd:"" help:"Set a secret, which recipes read as secrets.<name>; its value comes from stdin or a file."`
		Delete secretsDeleteCommand `cmd:"" help:"Delete a secret."`
	} `cmd:"" help:"Set and delete the secrets of recipes."`
	Schedules   schedulesGroup   `cmd:"" help:"Have recipes start by themselves."`
	Audit       auditGroup       `cmd:"" help:"Look at the audit log, and have it prove itself."`
	DeadLetters deadLettersGroup `cmd:"" help:"Look at messages that could not be processed, and decide about them (operator)."`
	Billing     struct {
		Reconcile reconcileCommand `cmd:"" help:"Check that balances, ledger, grants and journal agree; exit 1 where they do not."`
	} `cmd:"" help:"Look after the ledger (operator)."`
	Projection struct {
		Rebuild rebuildCommand `cmd:"" help:"Have the table of executions made again from the journal."`
	} `cmd:"" help:"Look after the table of executions (operator)."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// app is what a command is given.
type app struct {
	Process
	ctx    context.Context //nolint:containedctx // kong calls the commands with values that are bound beforehand
	report *report.Report
}

// Main runs a command and returns the exit code of the process.
func Main(process Process) int {
	return lifecycle.Main("galley", process.Err, func(ctx context.Context) error {
		var commands grammar
		parser, err := kong.New(&commands, kong.Name("galley"), kong.Description(description), kong.Writers(process.Out, process.Err),
			kong.Exit(process.Exit), kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}))
		if err != nil {
			return fmt.Errorf("build the command line: %w", err)
		}
		if err := checkEnvironment(parser, process.Environ); err != nil {
			return lifecycle.Usage(err)
		}
		command, err := parser.Parse(process.Args)
		if err != nil {
			return lifecycle.Usage(err)
		}
		return command.Run(&app{Process: process, ctx: ctx, report: report.New(process.Out, process.Environ)})
	})
}

// checkEnvironment refuses a variable of ours that no command knows: a misspelt setting must not be silently ignored.
func checkEnvironment(parser *kong.Kong, environ []string) error {
	known := variables(parser)
	var problems []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, config.Prefix) && !slices.Contains(known, name) {
			nearest := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(name, a), distance(name, b)) })
			problems = append(problems, fmt.Errorf("%s is not a setting: did you mean %s? (galley up --help lists them)", name, nearest))
		}
	}
	return errors.Join(problems...)
}

// variables lists those that some command reads.
func variables(parser *kong.Kong) []string {
	var names []string
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, flag := range node.Flags {
			names = append(names, flag.Envs...)
		}
		for _, child := range node.Children {
			visit(child)
		}
	}
	visit(parser.Model.Node)
	slices.Sort(names)
	return slices.Compact(names)
}

// distance is the number of letters to change, add or leave out to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
