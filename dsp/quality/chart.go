package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// The chart is a sheet of panels, in an SVG that needs nothing else and follows the reader's choice of light or dark.
const (
	panelWidth, panelHeight = 370, 330
	plotLeft, plotTop       = 52, 62
	plotWidth, plotHeight   = 300, 220
	panelsAcross            = 3
)

const chartStyle = `<style>
text{font:11px system-ui,sans-serif;fill:#24292f}
.title{font-size:13px;font-weight:600}
.sheet{fill:#ffffff}
.grid{stroke:#d0d7de;stroke-width:.6}
.axis{stroke:#57606a;fill:none}
.line{fill:none;stroke-width:1.6}
.dash{stroke-dasharray:5 3;stroke-width:1.2}
.dot{stroke-dasharray:1.5 2.5}
.s0{stroke:#0969da}.f0{fill:#0969da}
.s1{stroke:#bc4c00}.f1{fill:#bc4c00}
.s2{stroke:#1a7f37}.f2{fill:#1a7f37}
.s3{stroke:#8250df}.f3{fill:#8250df}
.s4{stroke:#bf3989}.f4{fill:#bf3989}
.s5{stroke:#57606a}.f5{fill:#57606a}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.sheet{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#8b949e}
.s0{stroke:#58a6ff}.f0{fill:#58a6ff}
.s1{stroke:#f0883e}.f1{fill:#f0883e}
.s2{stroke:#56d364}.f2{fill:#56d364}
.s3{stroke:#bc8cff}.f3{fill:#bc8cff}
.s4{stroke:#ff7bba}.f4{fill:#ff7bba}
.s5{stroke:#8b949e}.f5{fill:#8b949e}
}
</style>
`

// axis maps values to a length.
type axis struct {
	label     string
	low, high float64
	step      float64 // between ticks; of a logarithmic axis the ticks are its decades
	log       bool
	at        []float64 // ticks, where they are others
}

func (a axis) position(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(math.Max(v, 1e-30)), math.Log10(low), math.Log10(high)
	}
	return math.Max(-0.02, math.Min((v-low)/(high-low), 1.02))
}

func (a axis) ticks() (all []float64) {
	if a.at != nil {
		return a.at
	}
	if !a.log {
		for i := 0; a.low+float64(i)*a.step <= a.high+1e-9; i++ {
			all = append(all, a.low+float64(i)*a.step)
		}
		return all
	}
	for d := math.Ceil(math.Log10(a.low) - 1e-9); d <= math.Log10(a.high)+1e-9; d++ {
		all = append(all, math.Pow(10, d))
	}
	return all
}

func (a axis) text(v float64) string {
	if a.log && (v < 0.01 || v >= 1000) {
		return fmt.Sprintf("1e%.0f", math.Log10(v))
	}
	return fmt.Sprintf("%.3g", v)
}

// series is one line of a panel.
type series struct {
	name   string // empty: not in the legend
	color  int
	style  string // class: dash, dot, or none
	dots   bool
	x, y   []float64
	lowest []float64 // of the whiskers, or none
	most   []float64
}

func (s *series) add(x, y float64) {
	if math.IsNaN(x) || math.IsNaN(y) {
		return
	}
	s.x, s.y = append(s.x, x), append(s.y, y)
}

func (s *series) class() string {
	class := fmt.Sprintf("line s%d", s.color)
	if s.style != "" {
		class += " " + s.style
	}
	return class
}

// panel is one diagram.
type panel struct {
	title string
	x, y  axis
	lines []series
}

func (p *panel) draw(out *bytes.Buffer, left, top float64) {
	fmt.Fprintf(out, "<g transform=\"translate(%.0f %.0f)\">\n<text class=\"title\" x=\"%d\" y=\"20\">%s</text>\n",
		left, top, plotLeft, html.EscapeString(p.title))
	p.drawLegend(out)
	fmt.Fprintf(out, "<g transform=\"translate(%d %d)\">\n", plotLeft, plotTop)
	for _, v := range p.x.ticks() {
		x := plotWidth * p.x.position(v)
		fmt.Fprintf(out, "<path class=\"grid\" d=\"M%.1f 0V%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			x, plotHeight, x, plotHeight+15, p.x.text(v))
	}
	for _, v := range p.y.ticks() {
		y := plotHeight * (1 - p.y.position(v))
		fmt.Fprintf(out, "<path class=\"grid\" d=\"M0 %.1fH%d\"/><text x=\"-5\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			y, plotWidth, y+4, p.y.text(v))
	}
	fmt.Fprintf(out, "<path class=\"axis\" d=\"M0 0V%d H%d\"/>\n", plotHeight, plotWidth)
	fmt.Fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", plotWidth/2, plotHeight+31, html.EscapeString(p.x.label))
	fmt.Fprintf(out, "<text transform=\"translate(-38 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", plotHeight/2, html.EscapeString(p.y.label))
	for i := range p.lines {
		p.drawLine(out, &p.lines[i])
	}
	out.WriteString("</g></g>\n")
}

func (p *panel) drawLine(out *bytes.Buffer, s *series) {
	if len(s.x) == 0 {
		return
	}
	fmt.Fprintf(out, "<path class=\"%s\" d=\"", s.class())
	for i := range s.x {
		letter := 'L'
		if i == 0 {
			letter = 'M'
		}
		x, y := p.at(s.x[i], s.y[i])
		fmt.Fprintf(out, "%c%.1f %.1f", letter, x, y)
	}
	out.WriteString("\"/>\n")
	for i := range s.x {
		x, y := p.at(s.x[i], s.y[i])
		if s.dots {
			fmt.Fprintf(out, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.4\"/>", s.color, x, y)
		}
		if i < len(s.lowest) {
			_, low := p.at(s.x[i], s.lowest[i])
			_, high := p.at(s.x[i], s.most[i])
			fmt.Fprintf(out, "<path class=\"s%d\" d=\"M%.1f %.1fV%.1f\"/>", s.color, x, low, high)
		}
	}
	out.WriteString("\n")
}

func (p *panel) at(x, y float64) (px, py float64) {
	return plotWidth * p.x.position(x), plotHeight * (1 - p.y.position(y))
}

// drawLegend names the lines in two rows under the title.
func (p *panel) drawLegend(out *bytes.Buffer) {
	const columns, columnWidth, rowHeight = 3, 112, 13
	at := 0
	for _, s := range p.lines {
		if s.name == "" {
			continue
		}
		x, y := plotLeft-6+at%columns*columnWidth, 35+at/columns*rowHeight
		fmt.Fprintf(out, "<path class=\"%s\" d=\"M%d %dh16\"/><text x=\"%d\" y=\"%d\">%s</text>\n",
			s.class(), x, y-4, x+20, y, html.EscapeString(s.name))
		at++
	}
}

// chart draws the whole report.
func (r *report) chart() []byte {
	panels := []panel{r.detectionPanel(), r.lossPanel(), r.tradePanel(), r.cellPanel(), r.spreadPanel(), r.biasPanel()}
	rows := (len(panels) + panelsAcross - 1) / panelsAcross
	var out bytes.Buffer
	width, height := panelsAcross*panelWidth, rows*panelHeight
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n<title>Quality of package dsp</title>\n",
		width, height, width, height)
	out.WriteString(chartStyle)
	fmt.Fprintf(&out, "<rect class=\"sheet\" width=\"%d\" height=\"%d\"/>\n", width, height)
	for i := range panels {
		panels[i].draw(&out, float64(i%panelsAcross*panelWidth), float64(i/panelsAcross*panelHeight))
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}
