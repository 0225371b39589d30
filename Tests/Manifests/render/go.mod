module epp-pd/render

go 1.24
