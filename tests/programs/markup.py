"""lxml: files parsed, searched, transformed, and what is wrong with them."""
from lxml import etree, html


def parsed(n):
    root = etree.Element("shelf")
    for i in range(n):
        book = etree.SubElement(root, "book", id=str(i))
        etree.SubElement(book, "title").text = f"Title {i} ü"
    etree.ElementTree(root).write("shelf.xml", encoding="utf-8", xml_declaration=True, pretty_print=True)
    return etree.parse("shelf.xml")


def wrong(text):
    try:
        return etree.fromstring(text)
    except etree.XMLSyntaxError as e:
        return str(e)


tree = parsed(200)
print(len(tree.xpath("//book[@id mod 7 = 3]/title")), tree.find(".//book[@id='42']/title").text, tree.docinfo.encoding)
style = etree.XSLT(etree.XML("""<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:output method="text"/>
<xsl:template match="/"><xsl:for-each select="//book[position() &lt; 4]"><xsl:value-of select="title"/>;</xsl:for-each></xsl:template></xsl:stylesheet>"""))
print(str(style(tree)).strip(), wrong("<a><b></a>"))
print(html.fromstring("<p>one<br>two<a href='x'>link").xpath("//a/@href"), [e.tag for _, e in etree.iterparse("shelf.xml")][-2:])
