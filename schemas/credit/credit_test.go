package credit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/galley-engine/galley/schemas/credit"
)

func ExampleParse() {
	price, _ := credit.Parse("0.08")
	fmt.Println(int64(price), price)
	// Output: 80000 0.08
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]credit.Micro{
		"0": 0, "1": 1_000_000, "0.000001": 1, "-1.5": -1_500_000, "007.10": 7_100_000,
		"9223372036854.775807": math.MaxInt64,
	} {
		got, err := credit.Parse(text)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "1.", ".5", "1e3", "0.0000001", "+1", "1,5", " 1", "--1", "9223372036854.775808", "NaN"} {
		if got, err := credit.Parse(text); !errors.Is(err, credit.ErrSyntax) {
			t.Errorf("Parse(%q) = %d, %v; want ErrSyntax", text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0.08")
	f.Add("-9223372036854.775807")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := credit.Parse(text)
		if err != nil {
			return
		}
		data, err := json.Marshal(parsed)
		if err != nil {
			t.Fatal(err)
		}
		var back credit.Micro
		if err := json.Unmarshal(data, &back); err != nil || back != parsed {
			t.Fatalf("%q: %d became %s became %d, %v", text, parsed, data, back, err)
		}
	})
}
