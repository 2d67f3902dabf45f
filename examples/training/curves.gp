# Draws out/curves.png from out/curves.csv: means over seeds against steps. A picture per value of the first column, in a
# row; below them, where the file has accuracies, those.
csv = out.'/curves.csv'
distinct(k) = system("tail -n +2 ".csv." | cut -d, -f".k." | awk '!seen[$0]++' | tr '\\n' ' '")
column_of(name) = system("head -1 ".csv." | tr , '\\n' | grep -n -x ".name." | cut -d: -f1")
panels = distinct('1')
methods = distinct('2')
heading(p) = p eq 'common' ? '(a) one common learning rate' : p eq 'best' ? '(b) each method at its own best rate' : p
means(p, m, column) = "< awk -F, '$1 == \"".p."\" && $2 == \"".m."\" {s[$".column_of('step')."] += $".column."; n[$".column_of('step')."]++} END {for (k in s) print k, s[k]/n[k]}' ".csv." | sort -n"
dash(m) = (strlen(m) > 9 && substr(m, 1, 9) eq 'ga-random') ? 3 : 1
values = column_of('accuracy') eq '' ? 'loss' : 'loss accuracy'
set terminal pngcairo size 700*words(panels), 560*words(values) font 'sans,11'
set output out.'/curves.png'
set multiplot layout words(values), words(panels)
set xlabel 'step'
set grid
set linetype 1 lc rgb 'black'
set linetype 5 lc rgb '#8a2be2'
set linetype 8 lc rgb '#0072b2'  # the vision example's random controls share their counterparts' colours
set linetype 9 lc rgb '#e51e10'
do for [value in values] {
  set ylabel value.' on held-out items (mean of seeds)'
  if (value eq 'loss') { set key top right } else { set key bottom right }
  do for [p in panels] {
    set title heading(p)
    plot for [m in methods] means(p, m, column_of(value)) with lines linewidth 2 dashtype dash(m) title m
  }
}
unset multiplot
