package report

import (
	"charm.land/lipgloss/v2"

	"github.com/galley-engine/galley/schemas/event"
)

// The colours are those of the terminal's own palette, so that they can be read on a light and on a dark background.

func bold() lipgloss.Style   { return lipgloss.NewStyle().Bold(true) }
func faint() lipgloss.Style  { return lipgloss.NewStyle().Faint(true) }
func green() lipgloss.Style  { return lipgloss.NewStyle().Foreground(lipgloss.Green) }
func yellow() lipgloss.Style { return lipgloss.NewStyle().Foreground(lipgloss.Yellow) }
func red() lipgloss.Style    { return lipgloss.NewStyle().Foreground(lipgloss.Red) }
func cyan() lipgloss.Style   { return lipgloss.NewStyle().Foreground(lipgloss.Cyan) }

// byStatus colours the status of an execution or of a step, and the outcome of an audited action.
func byStatus(status string) lipgloss.Style {
	switch status {
	case string(event.StatusSuccess):
		return green()
	case string(event.StatusFailed), "rejected":
		return red()
	case string(event.StatusPartial), string(event.StatusAccepted), string(event.StatusRunning), string(event.StatusWaiting):
		return yellow()
	default:
		return faint()
	}
}

// bySign colours an amount of credits.
func bySign(amount string) lipgloss.Style {
	if len(amount) > 0 && amount[0] == '-' {
		return red()
	}
	return green()
}

func quiet(string) lipgloss.Style { return faint() }
