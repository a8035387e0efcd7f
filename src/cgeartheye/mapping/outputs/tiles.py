"""The files of a map in tiles: a GeoTIFF and a STAC Item each, VRTs over them, a Collection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgeartheye.geo.reader import Span
from cgeartheye.mapping.geotiff import RasterStyle, RawRaster, styled_vrt, write_geotiff
from cgeartheye.mapping.job import MAP, PROBABILITIES, MapJob
from cgeartheye.mapping.outputs.stac import COLLECTION, asset_of, declare, item_of, times_of
from cgeartheye.mapping.tiles import Tile, has_data, tiles_of
from cgeartheye.utils.console import bar
from cgeartheye.utils.io import write_json, write_text

TILES = "tiles"
_PLANES = {"classes": (MAP, ""), "probabilities": (PROBABILITIES, ".probabilities")}


def write_tiles(
    job: MapJob, planes: Mapping[str, RawRaster], style: RasterStyle, what: str
) -> list[str]:
    """Write the tiles of a map that have data, and `map.vrt` over them.

    What this map has written of them before it was stopped is kept, and no tile of another map.

    Args:
        job: the map.
        planes: `classes`, and `probabilities` where they are asked for.
        style: of the map.
        what: it shows, for its STAC.

    Returns:
        Their names, which are the ids of their STAC Items in `tiles/`.

    Raises:
        UserError: a file cannot be written.
    """
    found, kept = list(tiles_of(job)), []
    times = times_of(job)
    with bar("writing", len(found), "tiles") as progress:
        for tile in found:
            if has_data(planes["classes"], tile):
                kept.append(tile)
                assets = _write_tile(job, planes, style, tile)
                _write_tile_item(job, tile, what, times, assets)
            progress.advance()
    for plane, (name, suffix) in _PLANES.items():
        if plane in planes:
            path = (job.out / name).with_suffix(".vrt")
            write_text(path, _mosaic(planes[plane], style, kept, suffix))
    return [tile.name for tile in kept]


def _write_tile(
    job: MapJob, planes: Mapping[str, RawRaster], style: RasterStyle, tile: Tile
) -> dict[str, Any]:
    """Write the rasters of a tile that this map has not; return the assets of all."""
    assets, written = {}, job.work / TILES
    written.mkdir(exist_ok=True)
    for plane, (name, suffix) in _PLANES.items():
        if plane in planes:
            path = job.out / TILES / f"{tile.name}{suffix}.tif"
            if not (written / path.name).exists():
                write_geotiff(planes[plane], path, style, (tile.rows, tile.columns))
                (written / path.name).touch()
            href = {"href": f"./{path.name}"}
            assets[Path(name).stem] = asset_of(job, name, tile.window) | href
    return assets


def _write_tile_item(
    job: MapJob, tile: Tile, what: str, times: Mapping[str, Any], assets: dict[str, Any]
) -> None:
    item = item_of(job, tile.name, tile.window, what, times)
    place = {"href": f"../{COLLECTION}", "type": "application/json"}
    relations = ("root", "parent", "collection")
    declare(item, assets, [{"rel": relation, **place} for relation in relations])
    item["collection"] = job.out.resolve().name
    write_json(job.out / TILES / f"{tile.name}.json", item)


def _mosaic(plane: RawRaster, style: RasterStyle, tiles: list[Tile], suffix: str) -> str:
    """Return the XML of a GDAL virtual raster of tiles; where there is none, there is no data."""
    bands = [
        ("", "".join(_source(tile, suffix, band) for tile in tiles))
        for band in range(1, plane.bands + 1)
    ]
    return styled_vrt((plane.height, plane.width), bands, style.transform, style)


def _source(tile: Tile, suffix: str, band: int) -> str:
    height, width = _length(tile.rows), _length(tile.columns)
    size = f'xSize="{width}" ySize="{height}"'
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{TILES}/{tile.name}{suffix}.tif'
        f"</SourceFilename><SourceBand>{band}</SourceBand>"
        f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="Byte" '
        'BlockXSize="512" BlockYSize="512"/>'
        f'<SrcRect xOff="0" yOff="0" {size}/>'
        f'<DstRect xOff="{tile.columns[0]}" yOff="{tile.rows[0]}" {size}/></SimpleSource>'
    )


def _length(span: Span) -> int:
    return span[1] - span[0]
