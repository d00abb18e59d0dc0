package httpapi

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/galley-engine/galley/schemas/credit"
)

const formatCSV = "csv"

// sheet is a report as CSV (RFC 4180) that browsers save under a name with the period in it.
func (p *Period) sheet(name string, table [][]string) (*reportOutput, error) {
	var body bytes.Buffer
	writer := csv.NewWriter(&body)
	writer.UseCRLF = true
	for _, row := range table {
		for i := range row {
			row[i] = plain(row[i])
		}
		if err := writer.Write(row); err != nil {
			return nil, fmt.Errorf("write CSV: %w", err)
		}
	}
	writer.Flush()
	return &reportOutput{
		ContentType: "text/csv; charset=utf-8; header=present",
		Disposition: `attachment; filename="` + name + "-" + p.From + "-" + p.To + `.csv"`, Body: body.Bytes(),
	}, writer.Error()
}

// plain keeps a spreadsheet from taking a text for a formula. An amount below 0 is none.
func plain(cell string) string {
	if cell == "" || !strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return cell
	}
	if _, err := credit.Parse(cell); err == nil {
		return cell
	}
	return "'" + cell
}
