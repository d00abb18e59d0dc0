package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Print writes the result as tables.
func (r *Result) Print(out io.Writer) error {
	m := r.Machine
	fmt.Fprintf(out, "\n%s, %d cores, %s, %s\n%s, Postgres %s, %s\n", m.Processor, m.Cores, m.Memory, m.System, m.Go, m.Postgres,
		m.Time.Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(out, "durability %s, recipe %s, %d customers, warm-up %d executions; the load generator runs on the same machine\n\n",
		r.Settings.Durability, r.Settings.Recipe, r.Settings.Customers, r.Settings.WarmUp)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "over NATS\texecutions\tseconds\texecutions/s\tpublish s\tµs galley\tµs Postgres\tµs bench\t")
	rates := make([]float64, 0, len(r.Events))
	for n, e := range r.Events {
		fmt.Fprintf(table, "round %d\t%d\t%.2f\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t\n", n+1, e.Executions, e.Seconds, e.PerSecond,
			e.PublishSeconds, e.CPU.Galley, e.CPU.Postgres, e.CPU.Bench)
		rates = append(rates, e.PerSecond)
	}
	if len(rates) > 0 {
		slices.Sort(rates)
		fmt.Fprintf(table, "median\t\t\t%.0f\t\t\t\t\t\n", rates[len(rates)/2])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	fmt.Fprintln(table, "over HTTP\texecutions\texecutions/s\tp50 ms\tp90 ms\tp99 ms\tmax ms\tµs galley\tµs Postgres\tµs bench\t")
	for _, h := range r.HTTP {
		fmt.Fprintf(table, "%d callers\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t\n", h.Callers, h.Executions, h.PerSecond,
			h.P50, h.P90, h.P99, h.Max, h.CPU.Galley, h.CPU.Postgres, h.CPU.Bench)
	}
	if err := table.Flush(); err != nil || r.Fairness == nil {
		return err
	}
	f := r.Fairness
	fmt.Fprintf(out, "\none customer asks for %d executions at once (%.0f executions/s, µs: %.0f galley, %.0f Postgres, %.0f bench)\n", f.Flood,
		f.PerSecond, f.CPU.Galley, f.CPU.Postgres, f.CPU.Bench)
	fmt.Fprintln(table, "another's single ones\texecutions\tp50 ms\tp99 ms\tmax ms\tstill waiting\t")
	for _, s := range f.Singles {
		fmt.Fprintf(table, "%s\t%d\t%.2f\t%.2f\t%.2f\t%d\t\n", s.Way, s.Executions, s.P50, s.P99, s.Max, s.Waiting)
	}
	return table.Flush()
}
