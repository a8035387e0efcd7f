{# A style of QGIS for both kinds of layers: a raster takes the pipe, a layer of polygons the
renderer. #}
<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
 <pipe>
  <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
   <colorPalette>
{% for entry in entries %}
    <paletteEntry value="{{ entry.value }}" color="{{ entry.hex }}" alpha="{{ 0 if entry.hidden else 255 }}" label="{{ entry.name }}"/>
{% endfor %}
   </colorPalette>
  </rasterrenderer>
 </pipe>
 <renderer-v2 type="categorizedSymbol" attr="class" symbollevels="0" enableorderby="0" forceraster="0">
  <categories>
{% for entry in entries if not entry.hidden %}
   <category value="{{ entry.name }}" label="{{ entry.name }}" symbol="{{ entry.value }}" type="string" render="true"/>
{% endfor %}
  </categories>
  <symbols>
{% for entry in entries if not entry.hidden %}
   <symbol type="fill" name="{{ entry.value }}" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option type="QString" name="color" value="{{ entry.rgb }},{{ 0 if outlines else 140 }}"/>
      <Option type="QString" name="style" value="solid"/>
      <Option type="QString" name="outline_color" value="{{ entry.rgb }},255"/>
      <Option type="QString" name="outline_style" value="solid"/>
      <Option type="QString" name="outline_width" value="{{ 0.6 if outlines else 0.2 }}"/>
      <Option type="QString" name="outline_width_unit" value="MM"/>
     </Option>
    </layer>
   </symbol>
{% endfor %}
  </symbols>
 </renderer-v2>
</qgis>
