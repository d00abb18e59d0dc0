package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// Meter is something that is counted while a step runs.
type Meter string

// The meters.
const (
	// MeterInputTokens and MeterOutputTokens count what a language model reads and writes.
	MeterInputTokens  Meter = "input_tokens"
	MeterOutputTokens Meter = "output_tokens"
	// MeterUnits counts whatever the recipe or a worker says.
	MeterUnits Meter = "units"
)

// Unit is the field of a document's price that is for the meter, and for how many of it; "" and 0 for a meter that there is not.
func (m Meter) Unit() (field string, per int64) {
	switch m {
	case MeterInputTokens:
		return "per_1k_input_tokens", 1000
	case MeterOutputTokens:
		return "per_1k_output_tokens", 1000
	case MeterUnits:
		return "per_unit", 1
	}
	return "", 0
}

func (m Meter) of(usage *event.Usage) int64 {
	switch m {
	case MeterInputTokens:
		return usage.InputTokens
	case MeterOutputTokens:
		return usage.OutputTokens
	case MeterUnits:
		return usage.Units
	}
	return 0
}

// Price is what a step, or an item of a foreach, costs: a fixed amount when it succeeds, or what is measured while it runs.
type Price struct {
	// Fixed is the price of a step without Rates.
	Fixed credit.Micro
	// Rates are the prices of what is measured; none for a fixed price.
	Rates []Rate
	// Max is the most that is charged for what is measured.
	Max credit.Micro
}

// Rate is the price of so many units of a meter.
type Rate struct {
	Meter  Meter
	Amount credit.Micro
	Per    int64
}

// Metered tells whether the price depends on what is measured.
func (p *Price) Metered() bool { return len(p.Rates) > 0 }

// Quote is the most that the step can cost.
func (p *Price) Quote() credit.Micro {
	if p.Metered() {
		return p.Max
	}
	return p.Fixed
}

// Charge is what has to be paid for the usage, rounded up to a micro-credit, and whether that is more than Max. It is for a metered
// price.
func (p *Price) Charge(usage *event.Usage) (charge credit.Micro, above bool) {
	if usage == nil {
		return 0, false
	}
	for _, rate := range p.Rates {
		used := max(0, rate.Meter.of(usage))
		whole, rest := credit.Micro(used/rate.Per), credit.Micro(used%rate.Per)
		// What is counted comes from outside: compare before multiplying, for products that do not fit.
		if rate.Amount > 0 && whole > (p.Max-charge)/rate.Amount {
			return p.Max, true
		}
		charge += whole*rate.Amount + (rest*rate.Amount+credit.Micro(rate.Per)-1)/credit.Micro(rate.Per)
		if charge > p.Max {
			return p.Max, true
		}
	}
	return charge, false
}

// price reads the price of a step, or of each item of its foreach.
func (d *stepReader) price(n *node, step *stepSpec) Price {
	var price Price
	if n.kind == kindObject {
		price = d.metered(n, step)
	} else {
		price.Fixed = d.amount(n)
	}
	if step.forEach != nil && price.Quote()*credit.Micro(step.forEach.maxItems) > maxAmount {
		d.report(CodeInvalidPrice, n, "the price of %d items is above %s credits", step.forEach.maxItems, maxAmount)
		return Price{}
	}
	return price
}

func (d *stepReader) metered(n *node, step *stepSpec) Price {
	var meters []Meter
	if component := d.components.component(step.uses); component != nil {
		meters = component.Meters
	}
	if len(meters) == 0 {
		if step.uses != "" {
			d.report(CodeInvalidPrice, n, "%s measures nothing: give a fixed amount such as \"0.02\"", step.uses)
		}
		return Price{}
	}
	fields := []string{"max"}
	for _, meter := range meters {
		field, _ := meter.Unit()
		fields = append(fields, field)
	}
	if !d.object(n, fields...) {
		return Price{}
	}
	price := Price{}
	if most := d.required(n, "max"); most != nil {
		price.Max = d.amount(most)
	}
	for _, meter := range meters {
		field, per := meter.Unit()
		if f := n.field(field); f != nil {
			price.Rates = append(price.Rates, Rate{Meter: meter, Amount: d.amount(f), Per: per})
		}
	}
	if !price.Metered() {
		d.report(CodeInvalidPrice, n, "give at least one of %s", strings.Join(slices.Delete(fields, 0, 1), ", "))
	}
	return price
}

// mustCharge refuses a step that exists to be paid for and is not.
func (d *stepReader) mustCharge(n *node, step *stepSpec) {
	component := d.components.component(step.uses)
	if component == nil || !component.Charges || step.price.Metered() || n.field("price") != nil && n.field("price").kind == kindObject {
		return
	}
	field, _ := component.Meters[0].Unit()
	d.reportAt(CodeInvalidPrice, pointer(n.path(), "price"), n.line, n.col, "%s",
		fmt.Sprintf("%s needs a price such as {%s: \"0.01\", max: \"1.00\"}", step.uses, field))
}
