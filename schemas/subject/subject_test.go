package subject_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/galley-engine/galley/schemas/subject"
)

func ExampleExecution() {
	execution := subject.Execution{Customer: "cust_001", ID: "0190a6a4-7cf0-7a3e-9d6d-2f6f3f1f0b11"}
	fmt.Println(execution.Event("completed", ""))
	// Output: galley.execution.10.cust_001.0190a6a4-7cf0-7a3e-9d6d-2f6f3f1f0b11.completed
}

func TestValidID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "0", "the-hunter", "cust_001", strings.Repeat("x", 64)} {
		if !subject.ValidID(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, id := range []string{"", "-a", "_a", "a.b", "a b", "*", ">", "a*", "é", "a\n", "a\x00", strings.Repeat("x", 65)} {
		if subject.ValidID(id) {
			t.Errorf("%q is allowed", id)
		}
	}
}

func FuzzParseExecution(f *testing.F) {
	f.Add("galley.execution.10.cust_001.id.completed")
	f.Fuzz(func(t *testing.T, text string) {
		execution, kind, number, err := subject.ParseExecution(text)
		if err == nil && subject.ValidID(execution.Customer) {
			again, sameKind, sameNumber, err := subject.ParseExecution(execution.Event(kind, number))
			if err != nil || again != execution || sameKind != kind || sameNumber != number {
				t.Fatalf("%q became %+v %q %q, %v", text, again, sameKind, sameNumber, err)
			}
		}
	})
}

func TestParseSignal(t *testing.T) {
	t.Parallel()
	want := subject.Execution{Customer: "cust_001", ID: "e-1"}
	execution, name, err := subject.ParseSignal(want.Signal("stock"))
	if err != nil || execution != want || name != "stock" {
		t.Fatal(execution, name, err)
	}
	for _, wrong := range []string{
		"", "galley.signal", "galley.signal.", "galley.signal.a", "galley.signal.a.b", "galley.signal.a.b.", "galley.signal.a.b.c.d",
		"galley.signal..b.c", "galley.signal.a..c", "galley.signals.a.b.c", "a.b.c", "galley.signal.a.b.*",
	} {
		if _, _, err := subject.ParseSignal(wrong); err == nil {
			t.Errorf("%q was taken apart", wrong)
		}
	}
}

func TestParseLimited(t *testing.T) {
	t.Parallel()
	if customer, err := subject.ParseLimited(subject.Limited("cust_001")); err != nil || customer != "cust_001" {
		t.Fatal(customer, err)
	}
	for _, wrong := range []string{"", "galley.limited", "galley.limited.", "galley.limited.a.b", "galley.limits.a", "galley.limited.*"} {
		if _, err := subject.ParseLimited(wrong); err == nil {
			t.Errorf("%q was taken apart", wrong)
		}
	}
}
